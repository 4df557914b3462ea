//! What a source's URL says about messages that are over: `mark`, `move` and `errors`. Doing it is the sources' business.

use std::fmt;

/// What becomes of messages upstream once they are carried out, or have ended as dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// `mark`: what is set on messages that are done, in the order of the URL (default `seen`; `none` for nothing).
    pub marks: Vec<Mark>,
    /// `move`: the folder that done messages are moved to, with `/` between levels.
    pub done: Option<String>,
    /// `errors`: the folder that messages are moved to which have ended as dead letters.
    pub errors: Option<String>,
}

/// Something that is set on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// `seen`: somebody has read it.
    Seen,
    /// `flagged`: it deserves attention.
    Flagged,
    /// `answered`: it was replied to.
    Answered,
    /// A word of one's own, such as `$Ordered`, which only IMAP has, and only on servers that keep such words.
    Keyword(String),
}

impl Default for After {
    fn default() -> Self {
        After {
            marks: vec![Mark::Seen],
            done: None,
            errors: None,
        }
    }
}

impl After {
    /// Whether anything is ever changed upstream.
    pub fn changes_anything(&self) -> bool {
        !self.marks.is_empty() || self.done.is_some() || self.errors.is_some()
    }

    /// Searches for messages that do not look done (RFC 9051 section 6.4.4). Of several marks one's own tells most, because
    /// nobody else sets it; without marks they all do.
    pub(crate) fn imap_unfinished(&self) -> String {
        let own = self.marks.iter().find(|mark| matches!(mark, Mark::Keyword(_)));
        match own.or(self.marks.first()) {
            Some(Mark::Keyword(word)) => format!("UNKEYWORD {word}"),
            Some(Mark::Seen) => "UNSEEN".to_owned(),
            Some(Mark::Flagged) => "UNFLAGGED".to_owned(),
            Some(Mark::Answered) => "UNANSWERED".to_owned(),
            None => "UNDELETED".to_owned(),
        }
    }

    /// Takes an option; `false` if it is none of these.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "mark" if value == "none" => self.marks = Vec::new(),
            "mark" => self.marks = value.split(',').map(mark).collect::<Result<_, _>>()?,
            "move" => self.done = Some(folder(key, value)?),
            "errors" => self.errors = Some(folder(key, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What only the whole of the URL shows to be wrong; `watched` is the folder that is read.
    pub(super) fn check(&self, watched: &str) -> Result<(), String> {
        for (option, target) in [("move", &self.done), ("errors", &self.errors)] {
            if target.as_deref().is_some_and(|target| is_same(target, watched)) {
                return Err(format!("{option} names the folder that is read; name another one"));
            }
        }
        Ok(())
    }
}

/// The inbox has one name in any spelling; the others are as they are written.
fn is_same(one: &str, other: &str) -> bool {
    one == other || (one.eq_ignore_ascii_case("INBOX") && other.eq_ignore_ascii_case("INBOX"))
}

fn mark(word: &str) -> Result<Mark, String> {
    match word {
        "seen" => Ok(Mark::Seen),
        "flagged" => Ok(Mark::Flagged),
        "answered" => Ok(Mark::Answered),
        // An atom that is no flag of the system's (RFC 9051 section 9, flag-keyword), and marked as one's own, so that a
        // mistyped `sean` is a mistake and not a keyword.
        own if own.len() > 1
            && own.len() <= 64
            && own.starts_with('$')
            && own
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte)) =>
        {
            Ok(Mark::Keyword(own.to_owned()))
        }
        other => Err(format!(
            "mark `{other}` is not known; there are none, seen, flagged, answered, and keywords such as $Ordered, several of \
             them with commas between"
        )),
    }
}

fn folder(option: &str, name: &str) -> Result<String, String> {
    let name = name.trim_matches('/');
    match name.is_empty() || name.chars().any(char::is_control) || name.len() > 200 {
        true => Err(format!(
            "{option} names no folder; write its name, with / between levels"
        )),
        false => Ok(name.to_owned()),
    }
}

impl Mark {
    /// As IMAP writes it.
    pub fn imap_flag(&self) -> &str {
        match self {
            Mark::Seen => "\\Seen",
            Mark::Flagged => "\\Flagged",
            Mark::Answered => "\\Answered",
            Mark::Keyword(word) => word,
        }
    }

    /// As file names in a Maildir have it; `None` for a keyword.
    pub(crate) fn maildir_letter(&self) -> Option<char> {
        match self {
            Mark::Seen => Some('S'),
            Mark::Flagged => Some('F'),
            Mark::Answered => Some('R'),
            Mark::Keyword(_) => None,
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.imap_flag())
    }
}
