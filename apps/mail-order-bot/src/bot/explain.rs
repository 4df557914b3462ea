//! The command `explain`: what the bot makes of a mail in a file, with this configuration, whether a bot runs or not.
//! What is told is `crate::explain`'s.

use std::io::Read as _;
use std::sync::Arc;

use plba::clock::Clock;
use plba::control::{ControlError, Parameters};
use plba::prelude::*;
use serde_json::Value;

use super::settings::BotConfig;
use crate::desk::DeskSettings;
use crate::domain::Catalogue;
use crate::explain::{Explained, explain, told};
use crate::reading::WorkbookParser;

/// How mails are read, without the store that a desk has.
pub struct Reader(DeskSettings);

/// The reader as a service.
pub fn service(config: &Arc<BotConfig>) -> ServiceDefinition {
    let (config, made_from) = (Arc::clone(config), config.desk.clone());
    ServiceDefinition::new::<Reader, _, _>(move |_| {
        let config = Arc::clone(&config);
        async move {
            let faults = |faults: Vec<_>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let settings = config.desk.validate().map_err(faults)?;
            Ok(Arc::new(Reader(settings.with_parser(WorkbookParser::in_child()?))))
        }
    })
    .made_from(&made_from)
}

/// `explain FILE`, or `explain -` for standard input.
pub fn endpoint() -> Endpoint {
    let summary = "Tells what is recognised in a mail and why; stores nothing and needs no running bot";
    Endpoint::view::<Explained, _, _>("explain", summary, answer)
        .words("file", "a mail as it came (.eml), or `-` for standard input")
        .here()
        .told(told)
}

async fn answer(services: Services, parameters: Parameters) -> Result<Explained, ControlError> {
    let file = file(&parameters)?;
    let (reader, catalogue) = (
        services.get::<Reader>().await.map_err(failed)?,
        services.get::<Catalogue>().await.map_err(failed)?,
    );
    let now = services.get::<dyn Clock>().await.map_err(failed)?.now();
    let work = move || -> Result<Explained, ControlError> {
        // One byte more than is allowed, so that a message that is too large is called so.
        let most = reader.0.limits.message_bytes as u64 + 1;
        let raw = read(&file, most).map_err(|error| ControlError::Invalid(format!("{file}: {error}")))?;
        explain(&raw, &catalogue, &reader.0, now).map_err(|error| ControlError::Failed(error.into()))
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

fn file(parameters: &Parameters) -> Result<String, ControlError> {
    let one = match parameters.get("file") {
        Some(Value::Array(words)) => match words.as_slice() {
            [Value::String(file)] => Some(file.clone()),
            _ => None,
        },
        Some(Value::String(file)) => Some(file.clone()),
        _ => None,
    };
    one.ok_or_else(|| {
        ControlError::Invalid("name one file, such as `explain order.eml`, or `-` for standard input".to_owned())
    })
}

fn read(file: &str, most: u64) -> std::io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    if file == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut raw)?;
    } else {
        std::fs::File::open(file)?.take(most).read_to_end(&mut raw)?;
    }
    Ok(raw)
}

fn failed(error: impl Into<BoxError>) -> ControlError {
    ControlError::Failed(error.into())
}
