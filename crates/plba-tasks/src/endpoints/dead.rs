//! The views of dead letters: the list, and one of them with its payload, headers and whole history.

use jiff::Timestamp;
use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::services::Services;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::letters::Letters;
use super::parameters::{cursor, ids, invalid, limit, text};
use crate::queue::{DeadFilter, DeadPage, DeadTask};
use crate::task::{EndedAttempt, Origin, QueueName, TaskId};

/// How many bytes of a payload are shown as text,
const TEXT: usize = 16 * 1024;
/// and how many as hexadecimal numbers.
const HEX: usize = 512;

/// One dead letter, whole; only a long payload is cut.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadShown {
    /// Which task.
    pub id: TaskId,
    /// The queue it was in.
    pub queue: QueueName,
    /// What was to be done.
    pub kind: String,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// When it died.
    #[schemars(with = "String")]
    pub died: Timestamp,
    /// Why it died.
    pub reason: String,
    /// How often it was handed out.
    pub deliveries: u32,
    /// How many bytes the payload has.
    pub payload_bytes: u64,
    /// How the payload is shown here.
    pub payload_form: PayloadForm,
    /// The payload: the first 16 KiB of text, or the first 512 bytes as hexadecimal numbers, 16 to a line.
    pub payload: String,
    /// Facts beside the payload.
    pub headers: Vec<HeaderShown>,
    /// All attempts, oldest first.
    pub history: Vec<EndedAttempt>,
}

/// How a payload is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PayloadForm {
    /// As the text that it is, to its end.
    Text,
    /// As the text that it is, up to some place.
    TextCut,
    /// As hexadecimal numbers, to its end.
    Hex,
    /// As hexadecimal numbers, up to some place.
    HexCut,
    /// Not at all: the queue does not have it any more, its source does.
    WithItsSource,
    /// What could not be read as a task, as the raw bytes of its record in hexadecimal numbers.
    Undecodable,
}

/// A fact beside a payload.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderShown {
    /// Its name.
    pub name: String,
    /// What it says.
    pub value: String,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let list = Endpoint::view(
        "dead.list",
        "Lists dead letters, oldest first, with their history",
        list,
    );
    let show = "Shows one dead letter with its payload, headers and history";
    let show = Endpoint::view("dead.show", show, show_one)
        .words("ids", "the id of a dead letter, as `dead list` shows it")
        .parameter("queue", "the queue it was in; needed where two queues have one id");
    vec![
        filtered(list)
            .parameter("limit", "how many to list at most, 1 to 1,000 (100)")
            .parameter("cursor", "where to go on: `next` of the page before"),
        show,
    ]
}

/// Adds the parameters that choose dead letters.
pub(super) fn filtered(endpoint: Endpoint) -> Endpoint {
    endpoint
        .parameter("queue", "only those of this queue")
        .parameter("kind", "only those of exactly this kind")
        .parameter("text", "only those with this text in their id, kind, reason or origin")
}

pub(super) fn filter(parameters: &Parameters) -> Result<DeadFilter, ControlError> {
    Ok(DeadFilter {
        queue: text(parameters, "queue")?.map(QueueName::from),
        kind: text(parameters, "kind")?.map(str::to_owned),
        text: text(parameters, "text")?.map(str::to_owned),
    })
}

async fn list(services: Services, parameters: Parameters) -> Result<DeadPage, ControlError> {
    let filter = filter(&parameters)?;
    let (cursor, limit) = (cursor(&parameters)?, limit(&parameters)?);
    Letters::of(&services).await?.page(&filter, cursor, limit).await
}

async fn show_one(services: Services, parameters: Parameters) -> Result<DeadShown, ControlError> {
    let ids = ids(&parameters)?;
    let [id] = ids.as_slice() else {
        return Err(invalid("name one dead letter by its id, as `dead list` shows it"));
    };
    let letters = Letters::of(&services).await?;
    let queue = text(&parameters, "queue")?.map(QueueName::from);
    let found = letters.named(queue.as_ref(), std::slice::from_ref(id)).await?;
    let Some(letter) = found.first() else {
        return Err(unknown(id));
    };
    let found = letters.one(&letter.queue, id).await?;
    found.map(DeadShown::from).ok_or_else(|| unknown(id))
}

fn unknown(id: &TaskId) -> ControlError {
    invalid(format!("no dead letter has the id {id}; see `dead list`"))
}

impl From<DeadTask> for DeadShown {
    fn from(dead: DeadTask) -> Self {
        let (payload_form, payload) = preview(&dead);
        let letter = dead.letter;
        let header = |(name, value)| HeaderShown { name, value };
        Self {
            id: letter.id,
            queue: letter.queue,
            kind: letter.kind,
            origin: letter.origin,
            died: letter.died,
            reason: letter.reason,
            deliveries: letter.deliveries,
            payload_bytes: dead.payload.len() as u64,
            payload_form,
            payload,
            headers: dead.headers.into_iter().map(header).collect(),
            history: letter.history,
        }
    }
}

fn preview(dead: &DeadTask) -> (PayloadForm, String) {
    let payload = &dead.payload;
    if !dead.decoded {
        return (PayloadForm::Undecodable, hex(&payload[..payload.len().min(HEX)]));
    }
    if payload.is_empty() && dead.letter.origin.is_some() {
        return (PayloadForm::WithItsSource, String::new());
    }
    let beginning = &payload[..payload.len().min(TEXT)];
    let text = match std::str::from_utf8(beginning) {
        Ok(text) => Some(text),
        // The cut may go through a character.
        Err(error) if beginning.len() < payload.len() && error.valid_up_to() + 4 > beginning.len() => {
            std::str::from_utf8(&beginning[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let is_text = |text: &str| !text.chars().any(|char| char.is_control() && !char.is_whitespace());
    match text.filter(|text| is_text(text)) {
        Some(text) if text.len() == payload.len() => (PayloadForm::Text, text.to_owned()),
        Some(text) => (PayloadForm::TextCut, text.to_owned()),
        None if payload.len() <= HEX => (PayloadForm::Hex, hex(payload)),
        None => (PayloadForm::HexCut, hex(&payload[..HEX])),
    }
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        line.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::DeadLetter;

    fn shown(payload: &[u8], decoded: bool) -> (PayloadForm, String) {
        let letter = DeadLetter {
            id: "a".into(),
            queue: "orders".into(),
            kind: "test".into(),
            origin: None,
            died: Timestamp::UNIX_EPOCH,
            reason: String::new(),
            deliveries: 1,
            history: Vec::new(),
        };
        let payload = payload.to_vec().into();
        preview(&DeadTask {
            letter,
            payload,
            headers: Default::default(),
            decoded,
        })
    }

    #[test]
    fn text_is_shown_as_text_and_the_rest_in_hexadecimal() {
        assert_eq!(
            shown("2 × tea\r\n".as_bytes(), true),
            (PayloadForm::Text, "2 × tea\r\n".into())
        );
        assert_eq!(shown(b"\x1b[2J", true), (PayloadForm::Hex, "1b 5b 32 4a".into()));
        assert_eq!(shown(b"text", false), (PayloadForm::Undecodable, "74 65 78 74".into()));
        let (form, hex) = shown(&[0xff; 1_000], true);
        assert_eq!((form, hex.lines().count()), (PayloadForm::HexCut, 32));
        let long = "€".repeat(TEXT);
        let (form, text) = shown(long.as_bytes(), true);
        assert_eq!((form, text.len()), (PayloadForm::TextCut, TEXT - TEXT % 3));
    }
}
