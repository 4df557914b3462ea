//! Replay: parked mail once more, with today's settings: dead letters of the queue of orders, and the review list.

use plba::control::{ControlError, Endpoint, Parameters};
use plba::mail::MailSources;
use plba::services::Services;
use plba::tasks::queue::{DeadFilter, DeadLetter, TaskQueue};
use plba::tasks::task::{Origin, QueueName, TaskId};
use serde_json::{Value, json};

use super::{announce, at_the_desk, decided, failed, reading, source_mail};
use crate::authentication::{Authenticator, Policy};
use crate::bot::orders::tell;
use crate::bot::parameters::{flag, invalid, words};
use crate::bot::services::ORDERS;
use crate::desk::{Done, Processed, Prospect};
use crate::store::{ReviewId, ReviewState};

/// Most mails of one call.
const MOST: usize = 200;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::action::<Value, _, _>(
        "replay",
        "Processes parked mail once more: dead letters of the queue of orders, and the review list",
        replay,
    )
    .words("ids", "numbers of the review list, and ids of dead letters")
    .flag("review", "everything on the review list")
    .flag("dead", "all dead letters of the queue of orders")
    .flag("all", "both")
    .flag("dry-run", "only tell what would become of each; changes nothing")
}

async fn replay(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let dry = flag(&parameters, "dry-run");
    let all = flag(&parameters, "all");
    let (mut reviews, mut letters): (Vec<ReviewId>, Vec<TaskId>) = Default::default();
    for word in words(&parameters, "ids")? {
        match word.parse::<i64>() {
            // Ids of dead letters are longer than any number of the list.
            Ok(number) if word.len() < 12 => reviews.push(ReviewId(number)),
            _ => letters.push(TaskId::from(word.as_str())),
        }
    }
    if all || flag(&parameters, "review") {
        let open = reading(&services, Vec::new(), |reads| {
            reads.reviews(Some(ReviewState::Open), 0, MOST).map_err(failed)
        });
        reviews.extend(open.await?.into_iter().map(|review| review.id));
    }
    if all || flag(&parameters, "dead") {
        letters.extend(dead(&services).await?.into_iter().map(|letter| letter.id));
    } else if reviews.is_empty() && letters.is_empty() && !flag(&parameters, "review") {
        return Err(invalid("name parked mails, or say --review, --dead or --all"));
    }
    reviews.sort_unstable();
    reviews.dedup();
    let mut told = replay_reviews(&services, reviews, dry).await?;
    told.extend(replay_letters(&services, letters, dry).await?);
    Ok(Value::Array(told))
}

async fn dead(services: &Services) -> Result<Vec<DeadLetter>, ControlError> {
    let filter = DeadFilter {
        queue: Some(QueueName::from(ORDERS)),
        ..DeadFilter::default()
    };
    let queue = services.get::<dyn TaskQueue>().await.map_err(failed)?;
    Ok(queue.dead_letters(&filter, None, MOST).await.map_err(failed)?.letters)
}

async fn replay_reviews(services: &Services, ids: Vec<ReviewId>, dry: bool) -> Result<Vec<Value>, ControlError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    if dry {
        return at_the_desk(services, move |desk, now| {
            let look = |id: &ReviewId| {
                let prospect = desk.prospect_of_review(*id, now).map_err(decided)?;
                Ok(json!({ "review": id, "would_be": would_be(&prospect) }))
            };
            ids.iter().map(look).collect()
        })
        .await;
    }
    let done: Vec<(ReviewId, Done)> = at_the_desk(services, move |desk, now| {
        let each = |id: &ReviewId| Ok((*id, desk.replay_review(*id, now).map_err(decided)?));
        ids.iter().map(each).collect::<Result<Vec<_>, ControlError>>()
    })
    .await?;
    for (_, done) in &done {
        if !matches!(done.processed, Processed::Review { .. }) {
            tell(&done.processed);
        }
    }
    let told = done
        .iter()
        .map(|(id, done)| json!({ "review": id, "outcome": source_mail::outcome(&done.processed) }))
        .collect();
    let done: Vec<Done> = done.into_iter().map(|(_, done)| done).collect();
    announce(services, &done).await?;
    Ok(told)
}

/// Dead letters go back into their queue: there they are worked on as all mails are, and their source is told.
async fn replay_letters(services: &Services, ids: Vec<TaskId>, dry: bool) -> Result<Vec<Value>, ControlError> {
    let mut told = Vec::new();
    if ids.is_empty() {
        return Ok(told);
    }
    let queue = services.get::<dyn TaskQueue>().await.map_err(failed)?;
    let name = QueueName::from(ORDERS);
    for id in &ids {
        let Some(letter) = queue.dead_task(&name, id).await.map_err(failed)? else {
            return Err(invalid(format!(
                "no dead letter of the queue {ORDERS} has the id {id}; see `dead list`"
            )));
        };
        if !dry {
            let again = queue
                .retry_dead(&name, std::slice::from_ref(id))
                .await
                .map_err(failed)?;
            told.push(
                json!({ "dead": id, "outcome": if again == 1 { "back in the queue" } else { "gone meanwhile" } }),
            );
            continue;
        }
        let raw = match (letter.payload.is_empty(), &letter.letter.origin) {
            (false, _) => Some(letter.payload.into()),
            (true, Some(origin)) => parked(services, origin).await?,
            (true, None) => None,
        };
        let would_be = match raw {
            Some(raw) => prospect_of_letter(services, raw).await?,
            None => "read from its source once more".to_owned(),
        };
        told.push(json!({ "dead": id, "would_be": would_be }));
    }
    Ok(told)
}

/// The message of a dead letter that its source keeps as it came.
async fn parked(services: &Services, origin: &Origin) -> Result<Option<Vec<u8>>, ControlError> {
    let sources = services.get::<MailSources>().await.map_err(failed)?;
    let raw = sources.parked(&origin.source, &origin.key).await.map_err(failed)?;
    Ok(raw.map(Into::into))
}

/// What the handler would make of a dead letter, who sent it included.
async fn prospect_of_letter(services: &Services, raw: Vec<u8>) -> Result<String, ControlError> {
    let authenticator = services.get::<Authenticator>().await.map_err(failed)?;
    let verdict = match authenticator.authenticate(&raw).await {
        Ok(Some(found)) if found.policy == Policy::Reject => {
            return Ok(format!("a dead letter again: {}", found.verdict));
        }
        Ok(found) => found.map(|found| found.verdict),
        Err(error) => return Ok(format!("tried until that is known: {error}")),
    };
    at_the_desk(services, move |desk, now| {
        Ok(match desk.informed(verdict).prospect(&raw, now) {
            Ok(prospect) => would_be(&prospect),
            Err(error) => format!("a dead letter again: {error}"),
        })
    })
    .await
}

fn would_be(prospect: &Prospect) -> String {
    match prospect {
        Prospect::Order { lines, accepted } => format!("an order, {accepted} of {lines} lines accepted"),
        Prospect::Change => "a change of an order, or on the review list where none fits".to_owned(),
        Prospect::NotAnOrder(reason) => format!("no order: {reason}"),
        Prospect::Review(detail) => format!("on the review list: {detail}"),
    }
}
