//! What is sent: the outbox with its state, and the templates of replies, tried and previewed.

use std::sync::Arc;

use plba::control::{ControlError, Endpoint, Parameters};
use plba::services::Services;
use serde_json::{Value, json};

use super::orders::sent_row;
use super::{failed, reading};
use crate::bot::parameters::{flag, invalid, number, text, words};
use crate::bot::settings::BotConfig;
use crate::domain::{Catalogue, Order, OrderId};
use crate::reply::letter;
use crate::reply::templates::{Letter, NAMES, Templates};
use crate::samples;
use crate::store::OutboxId;
use crate::store::outbox::MAX_PENDING;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::view::<Value, _, _>(
            "outbox",
            "Lists replies and webhooks, the newest first, and whether they were sent",
            outbox,
        )
        .flag("pending", "only those that wait")
        .parameter("order", "only those about this order")
        .parameter("limit", "how many at most, up to 1000; 100 when left out"),
        Endpoint::view::<Value, _, _>("outbox.show", "Shows one reply or webhook as it is sent", show)
            .words("ids", "the id of a reply or webhook, as `outbox` shows it"),
        Endpoint::view::<Value, _, _>(
            "templates.check",
            "Tries every template of replies with sample orders",
            check,
        )
        .first(),
        Endpoint::view::<Value, _, _>(
            "templates.show",
            "Lists the files of templates, or prints one: what to begin one's own with",
            show_template,
        )
        .words("file", "such as order.en.txt; without one, all are listed")
        .first()
        .told(told_template),
        Endpoint::view::<Value, _, _>("templates.preview", "Shows a reply as it would be written", preview)
            .words("names", "order, amendment, cancellation or unrecognised")
            .parameter("order", "for this order; for a sample when left out")
            .parameter("language", "in this language")
            .flag("html", "as HTML")
            .flag("facts", "what the template may name, with its values, instead")
            .first(),
    ]
}

async fn outbox(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let order = number(&parameters, "order", i64::MAX as u64)?.map(|id| OrderId(id as i64));
    let limit = number(&parameters, "limit", MAX_PENDING as u64)?.unwrap_or(100) as usize;
    let pending = flag(&parameters, "pending");
    let rows = reading(&services, Vec::new(), move |reads| {
        let rows = if pending {
            reads.waiting(0, MAX_PENDING)
        } else {
            reads.sent_lately(order, limit)
        };
        rows.map_err(failed)
    });
    let rows = rows.await?;
    let fits = |row: &&crate::store::OutboxRow| order.is_none() || row.order_id == order;
    Ok(rows.iter().filter(fits).take(limit).map(sent_row).collect())
}

async fn show(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let [id] = &words(&parameters, "ids")?[..] else {
        return Err(invalid("name one reply or webhook by its id, as `outbox` shows it"));
    };
    let unknown = invalid(format!("nothing in the outbox has the id {id}; see `outbox`"));
    let Some(id) = OutboxId::parse(id) else {
        return Err(unknown);
    };
    let found = reading(&services, None, move |reads| reads.outbox_row(&id).map_err(failed)).await?;
    let row = found.ok_or(unknown)?;
    let mut shown = sent_row(&row);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert(
            "message".to_owned(),
            String::from_utf8_lossy(&row.message).replace('\r', "").into(),
        );
    }
    Ok(shown)
}

/// The templates of the configuration, whether they are sound or not.
async fn configured(services: &Services) -> Result<(Arc<BotConfig>, Result<Templates, Vec<String>>), ControlError> {
    let config = services.get::<BotConfig>().await.map_err(failed)?;
    let replies = config.desk.replies.clone();
    let loading = move || {
        let directory = replies.templates.as_ref().map(|directory| directory.as_path());
        let loaded = Templates::load(directory, &replies.language);
        loaded.map_err(|faults| faults.iter().map(ToString::to_string).collect())
    };
    let loaded = tokio::task::spawn_blocking(loading).await.map_err(failed)?;
    Ok((config, loaded))
}

async fn check(services: Services, _: Parameters) -> Result<Value, ControlError> {
    let (config, templates) = configured(&services).await?;
    let templates = match templates {
        Ok(templates) => templates,
        Err(faults) => return Err(invalid(faults.join("\n"))),
    };
    let catalogue = config.catalogue.clone();
    let checking = move || -> Result<Value, ControlError> {
        let catalogue = Catalogue::open(catalogue.as_str()).map_err(failed)?;
        let known = |reference: &str| catalogue.find(reference).is_some();
        let (mut faults, mut tried) = (Vec::new(), 0);
        for language in templates.languages() {
            for (name, facts) in samples::letters() {
                tried += 1;
                match templates.render(name, Some(&language), &facts) {
                    Ok(rendered) => {
                        if let Some(line) = letter::reads_as_order(&rendered, &known) {
                            faults.push(format!(
                                "template {name}.{language}: when a customer quotes it, the bot would take this for an order: \
                                 {line}; keep the heading answer_heading in the table, and say it in another way"
                            ));
                        }
                    }
                    Err(error) => faults.push(error.to_string()),
                }
            }
        }
        faults.dedup();
        match faults.is_empty() {
            true => Ok(
                json!({ "languages": templates.languages(), "tried": tried, "faults": 0, "notes": one_sided(&templates) }),
            ),
            false => Err(invalid(faults.join("\n"))),
        }
    };
    tokio::task::spawn_blocking(checking).await.map_err(failed)?
}

async fn show_template(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let (_, templates) = configured(&services).await?;
    let templates = templates.map_err(|faults| invalid(faults.join("\n")))?;
    let from = |own: bool| if own { "the directory" } else { "built in" };
    match &words(&parameters, "file")?[..] {
        [] => Ok(templates
            .files()
            .map(|(file, text, own)| json!({ "file": file, "from": from(own), "bytes": text.len() }))
            .collect()),
        [wanted] => {
            let found = templates.files().find(|(file, ..)| file == wanted);
            let (file, text, own) = found
                .ok_or_else(|| invalid(format!("there is no template {wanted:?}; `templates show` lists them")))?;
            Ok(json!({ "file": file, "from": from(own), "text": text }))
        }
        _ => Err(invalid("name one template, or none to list them")),
    }
}

/// Replies of which the business wrote one form and the program has the other: most mail programs show the page.
fn one_sided(templates: &Templates) -> Vec<Value> {
    let all: Vec<(String, bool)> = templates.files().map(|(file, _, own)| (file, own)).collect();
    let own = |file: &str| all.iter().any(|(known, own)| known == file && *own);
    let of_reply = |file: &str| {
        file.strip_suffix(".txt")
            .or_else(|| file.strip_suffix(".html"))
            .map(str::to_owned)
    };
    let mut replies: Vec<String> = all
        .iter()
        .filter(|(_, own)| *own)
        .filter_map(|(file, _)| of_reply(file))
        .collect();
    replies.dedup();
    let told = |(own, other): (String, String)| {
        json!({ "note": format!("{own} is in the directory and {other} is not: customers get both, and most programs show \
                                 the HTML; write that too") })
    };
    replies
        .into_iter()
        .filter_map(
            |reply| match (own(&format!("{reply}.txt")), own(&format!("{reply}.html"))) {
                (true, false) => Some((format!("{reply}.txt"), format!("{reply}.html"))),
                (false, true) => Some((format!("{reply}.html"), format!("{reply}.txt"))),
                _ => None,
            },
        )
        .map(told)
        .collect()
}

/// One template as its file has it, so that it can be written into one.
fn told_template(value: &Value) -> String {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    match value {
        Value::Array(files) => {
            let line = |file: &Value| format!("{:22}  {}\n", text(file, "file"), text(file, "from"));
            files
                .iter()
                .map(line)
                .collect::<String>()
                .chars()
                .filter(kept)
                .collect()
        }
        whole => text(whole, "text").chars().filter(kept).collect(),
    }
}

async fn preview(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let names = words(&parameters, "names")?;
    let [name] = &names[..] else {
        return Err(invalid(format!("name one reply: {}", NAMES.join(", "))));
    };
    let Some(name) = NAMES.into_iter().find(|known| known == name) else {
        return Err(invalid(format!(
            "there is no reply {name:?}; there are {}",
            NAMES.join(", ")
        )));
    };
    let (config, templates) = configured(&services).await?;
    let templates = templates.map_err(|faults| invalid(faults.join("\n")))?;
    let mut language = text(&parameters, "language");
    let facts = match number(&parameters, "order", i64::MAX as u64)? {
        Some(id) => {
            let id = OrderId(id as i64);
            let found = reading(&services, None, move |reads| reads.order(id).map_err(failed)).await?;
            let order: Order = found.ok_or_else(|| invalid(format!("there is no order {id}; see `orders`")))?;
            let profile = config
                .desk
                .profiles
                .iter()
                .find(|profile| profile.id == order.customer.id);
            language = language.or_else(|| profile.and_then(|profile| profile.language.clone()));
            letter::about(&order)
        }
        None => {
            let sample = samples::letters().into_iter().find(|(sample, _)| *sample == name);
            sample.map(|(_, facts)| facts).unwrap_or_else(letter::about_nothing)
        }
    };
    if flag(&parameters, "facts") {
        return Ok(json!({ "reply": name, "facts": serde_json::to_string_pretty(&facts).map_err(failed)? }));
    }
    let rendered = templates.render(name, language.as_deref(), &facts);
    let Letter { subject, text, html } = rendered.map_err(|error| invalid(error.to_string()))?;
    let body = if flag(&parameters, "html") { html } else { text };
    Ok(
        json!({ "reply": name, "language": language.unwrap_or_else(|| config.desk.replies.language.clone()),
        "subject": subject, "body": body }),
    )
}
