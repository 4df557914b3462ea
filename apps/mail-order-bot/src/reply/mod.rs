//! The answer to an order: who may be answered ([`etiquette`]), what it says ([`templates`] with the facts of [`letter`]),
//! how it is made a mail ([`compose`]). Handing it over is the bot's. Everything in a header was validated after decoding; what a stranger wrote is shortened before it is sent back, so that the bot is a poor megaphone for spam.

pub mod compose;
pub mod etiquette;
pub mod letter;
pub mod templates;

use lettre::Address;
use lettre::message::Mailbox;
use plba::config::FilePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::templates::{TemplateError, Templates};

/// How the bot answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReplyOptions {
    /// The sender of replies. Default `Mail Order Bot <orders@mail-order-bot.example>`.
    pub from: String,
    /// Further addresses of the bot's own, which are never answered and never taken for a customer. Default none.
    pub own_addresses: Vec<String>,
    /// Replies to one address within an hour; further ones are withheld. Default 20.
    pub max_per_hour: u32,
    /// Whether a message in which no order was found is answered too. Default no.
    pub answer_unrecognised: bool,
    /// A directory with templates of replies, which take the place of the built-in ones: `order.en.txt`, `order.en.html` and
    /// so on; what is not there is built in. `mail-order-bot templates show order.en.txt` prints one to begin with,
    /// `templates preview order --facts` what it may name, and `templates check` tries them. Default none.
    pub templates: Option<FilePath>,
    /// The language of replies to those whose profile names none; `en` and `de` are built in. Default `en`.
    pub language: String,
}

impl Default for ReplyOptions {
    fn default() -> Self {
        Self {
            from: "Mail Order Bot <orders@mail-order-bot.example>".to_owned(),
            own_addresses: Vec::new(),
            max_per_hour: 20,
            answer_unrecognised: false,
            templates: None,
            language: templates::LANGUAGE.to_owned(),
        }
    }
}

/// [`ReplyOptions`], checked.
#[derive(Debug, Clone)]
pub struct ReplySettings {
    pub(crate) from: Mailbox,
    own: Vec<String>,
    pub(crate) max_per_hour: u64,
    pub(crate) answer_unrecognised: bool,
    language: String,
    templates: Option<FilePath>,
}

/// A faulty [`ReplyOptions`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?} is not a mail address; write `name@domain` or `Name <name@domain>`")]
pub struct ReplyOptionsError {
    /// Which field.
    pub field: &'static str,
    /// What it says.
    pub value: String,
}

impl ReplyOptions {
    /// The address of the sender of replies.
    ///
    /// # Errors
    /// It is none.
    pub fn sender(&self) -> Result<String, ReplyOptionsError> {
        Ok(self.validate()?.from.email.to_string())
    }

    /// Checks all fields.
    ///
    /// # Errors
    /// The first address that is none.
    pub fn validate(&self) -> Result<ReplySettings, ReplyOptionsError> {
        let faulty = |field, value: &str| ReplyOptionsError {
            field,
            value: value.to_owned(),
        };
        let from: Mailbox = self.from.parse().map_err(|_| faulty("replies.from", &self.from))?;
        let mut own = vec![from.email.to_string().to_lowercase()];
        for address in &self.own_addresses {
            let parsed: Address = address.parse().map_err(|_| faulty("replies.own_addresses", address))?;
            own.push(parsed.to_string().to_lowercase());
        }
        Ok(ReplySettings {
            from,
            own,
            max_per_hour: u64::from(self.max_per_hour),
            answer_unrecognised: self.answer_unrecognised,
            language: self.language.clone(),
            templates: self.templates.clone(),
        })
    }
}

impl ReplySettings {
    /// The templates that are configured. Blocks.
    ///
    /// # Errors
    /// Every fault of every file.
    pub fn load_templates(&self) -> Result<Templates, Vec<TemplateError>> {
        let directory = self.templates.as_ref().map(FilePath::as_path);
        Templates::load(directory, &self.language)
    }

    /// The language of those whose profile names none.
    #[must_use]
    pub fn language(&self) -> &str {
        &self.language
    }

    /// Whether `address`, in lower case, is the bot's own.
    #[must_use]
    pub fn is_own(&self, address: &str) -> bool {
        self.own.iter().any(|own| own == address)
    }
}

#[cfg(test)]
mod tests;
