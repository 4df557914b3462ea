//! What was found out about a message's sender, as it is kept with the message.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of one method, in the words of RFC 8601, section 2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// It holds.
    Pass,
    /// It doesn't.
    Fail,
    /// It probably doesn't (SPF).
    SoftFail,
    /// The domain says nothing, or a signature can't be judged.
    Neutral,
    /// There is nothing to check, or it wasn't checked.
    #[default]
    None,
    /// A look-up failed for now.
    TempError,
    /// What was published can't be understood.
    PermError,
}

impl Finding {
    /// The finding of this word; anything unknown says nothing.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "pass" => Self::Pass,
            "fail" | "hardfail" => Self::Fail,
            "softfail" => Self::SoftFail,
            "neutral" | "policy" => Self::Neutral,
            "temperror" => Self::TempError,
            "permerror" => Self::PermError,
            _ => Self::None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::Neutral => "neutral",
            Self::None => "none",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What all findings together say about the address in `From`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// The message is from that domain.
    Pass,
    /// The domain says that its messages can be recognised, and this isn't one.
    Fail,
    /// Nothing proves it either way.
    #[default]
    None,
}

/// What was found out about a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// All findings together.
    pub standing: Standing,
    /// The domain in `From` that they are about.
    pub domain: Option<String>,
    /// Who found out: a mail server's name, or `mail-order-bot`.
    pub checked_by: String,
    /// Whether the domain's policy holds.
    pub dmarc: Finding,
    /// Whether a signature holds; of several the best that speaks for the domain.
    pub dkim: Finding,
    /// Whether the delivering machine may send for the envelope's domain.
    pub spf: Finding,
    /// The domains whose signatures or envelopes hold, whether or not they speak for the domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vouched_by: Vec<String>,
}

impl Verdict {
    /// Concludes from the findings: the policy decides; where there is none, anything that speaks for the domain.
    pub(super) fn conclude(&mut self) {
        let author = self.domain.as_deref().unwrap_or_default();
        let vouched = self.vouched_by.iter().any(|domain| super::aligned(domain, author));
        self.standing = match self.dmarc {
            Finding::Pass => Standing::Pass,
            Finding::Fail => Standing::Fail,
            _ if vouched => Standing::Pass,
            _ if self.spf == Finding::Fail || self.dkim == Finding::Fail => Standing::Fail,
            _ => Standing::None,
        };
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = self.domain.as_deref().unwrap_or("its sender");
        match self.standing {
            Standing::Pass => write!(f, "it is from {domain}")?,
            Standing::Fail => write!(f, "it is not from {domain}")?,
            Standing::None => write!(f, "nothing shows whether it is from {domain}")?,
        }
        let Self {
            dmarc,
            dkim,
            spf,
            checked_by,
            ..
        } = self;
        write!(f, " (dmarc={dmarc} dkim={dkim} spf={spf}, says {checked_by})")
    }
}
