//! The templates of replies: those in the program, and over them those in a directory that a business edits. Rendering is
//! strict (an unknown name is a fault), bounded, and escapes in HTML whatever comes from outside. What stands in a letter
//! is [`letter`](super::letter)'s.
//!
//! A template is a file `NAME.LANGUAGE.txt` or `NAME.LANGUAGE.html`, such as `order.de.html`; a name that begins with `_`
//! is a part that others include. The text's first line may be `Subject: …`; without one the reply has the mail's subject.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;

/// The replies there are.
pub const NAMES: [&str; 4] = ["order", "amendment", "cancellation", "unrecognised"];

/// The language that always has every template.
pub const LANGUAGE: &str = "en";

/// The most steps of one rendering: an order of 500 lines takes some 20,000.
const FUEL: u64 = 500_000;
/// The largest template file and the largest letter, in bytes.
const MAX_BYTES: usize = 512 * 1024;
/// The most files in a directory of templates.
const MAX_FILES: usize = 200;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("templates/", $name)))),*]
    };
}

const BUILT_IN: &[(&str, &str)] = built_in![
    "_lines.de.html",
    "_lines.de.txt",
    "_lines.en.html",
    "_lines.en.txt",
    "_reason.de.txt",
    "amendment.de.html",
    "amendment.de.txt",
    "amendment.en.html",
    "amendment.en.txt",
    "cancellation.de.html",
    "cancellation.de.txt",
    "cancellation.en.html",
    "cancellation.en.txt",
    "order.de.html",
    "order.de.txt",
    "order.en.html",
    "order.en.txt",
    "unrecognised.de.html",
    "unrecognised.de.txt",
    "unrecognised.en.html",
    "unrecognised.en.txt",
];

/// A reply, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its subject, if the template has one.
    pub subject: Option<String>,
    /// As text.
    pub text: String,
    /// As a page.
    pub html: String,
}

/// A fault in a template, with its place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template {file}: {problem}")]
pub struct TemplateError {
    /// The file, or the directory.
    pub file: String,
    /// What is wrong, and where.
    pub problem: String,
}

/// All templates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Templates {
    environment: Arc<Environment<'static>>,
    /// The language of those who have none.
    language: String,
}

impl Templates {
    /// Reads the templates of a directory over the built-in ones, and tries each. Blocks.
    ///
    /// # Errors
    /// Every fault of every file.
    pub fn load(directory: Option<&Path>, language: &str) -> Result<Self, Vec<TemplateError>> {
        let mut faults = Vec::new();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build();
        match syntax {
            Ok(syntax) => environment.set_syntax(syntax),
            Err(error) => faults.push(fault("syntax", &error)),
        }
        environment.set_fuel(Some(FUEL));
        environment.set_debug(true);
        environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        let own = directory
            .map(|directory| files(directory, &mut faults))
            .unwrap_or_default();
        let built_in = BUILT_IN
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        for (name, text) in built_in.chain(own) {
            if let Err(error) = environment.add_template_owned(name.clone(), text) {
                faults.push(fault(&name, &error));
            }
        }
        let templates = Self {
            environment: Arc::new(environment),
            language: language.to_owned(),
        };
        if faults.is_empty() && !templates.languages().iter().any(|known| known == language) {
            faults.push(TemplateError {
                file: format!("order.{language}.txt"),
                problem: format!(
                    "there is none, and the replies' language is \"{language}\"; add it to the directory, or choose one of {}",
                    templates.languages().join(", ")
                ),
            });
        }
        if faults.is_empty() { Ok(templates) } else { Err(faults) }
    }

    /// The built-in templates alone; without those of this language, English.
    #[must_use]
    pub fn built_in(language: &str) -> Self {
        let choices = [language, LANGUAGE];
        let loaded = choices.into_iter().find_map(|language| Self::load(None, language).ok());
        // A test tries them, so there is no other case; then replies would be withheld, and say why.
        loaded.unwrap_or_else(|| Self {
            environment: Arc::new(Environment::empty()),
            language: LANGUAGE.to_owned(),
        })
    }

    /// The languages that there are templates in.
    #[must_use]
    pub fn languages(&self) -> Vec<String> {
        let of = |name: &str| Some(name.strip_prefix("order.")?.strip_suffix(".txt")?.to_owned());
        let mut languages: Vec<String> = self.environment.templates().filter_map(|(name, _)| of(name)).collect();
        languages.sort();
        languages
    }

    /// The files, by name, each with its text and whether it is the business's own.
    pub fn files(&self) -> impl Iterator<Item = (String, String, bool)> {
        let own = |name: &str, text: &str| !BUILT_IN.contains(&(name, text));
        let mut files: Vec<(String, String)> = self
            .environment
            .templates()
            .map(|(name, template)| (name.to_owned(), template.source().to_owned()))
            .collect();
        files.sort_unstable();
        files.into_iter().map(move |(name, text)| {
            let own = own(&name, &text);
            (name, text, own)
        })
    }

    /// Renders a reply. A language that lacks it, such as `de-AT`, is followed by its base, by the language of replies, and
    /// by English.
    ///
    /// # Errors
    /// The template at fault, with the place.
    pub fn render(&self, name: &str, language: Option<&str>, context: &Value) -> Result<Letter, TemplateError> {
        let text = self.one(name, language, "txt", context)?;
        let html = self.one(name, language, "html", context)?;
        let (subject, text) = match text.strip_prefix("Subject:").and_then(|rest| rest.split_once('\n')) {
            Some((subject, rest)) => (
                Some(subject.trim().to_owned()),
                rest.trim_start_matches('\n').to_owned(),
            ),
            None => (None, text),
        };
        Ok(Letter {
            subject: subject.filter(|subject| !subject.is_empty()),
            text,
            html,
        })
    }

    fn one(&self, name: &str, language: Option<&str>, form: &str, context: &Value) -> Result<String, TemplateError> {
        let base = language
            .and_then(|language| language.split_once('-'))
            .map(|(base, _)| base);
        let choices = [language, base, Some(self.language.as_str()), Some(LANGUAGE)];
        let mut files = choices
            .iter()
            .flatten()
            .map(|language| format!("{name}.{language}.{form}"));
        let found = files.find_map(|file| Some((self.environment.get_template(&file).ok()?, file)));
        let Some((template, file)) = found else {
            return Err(TemplateError {
                file: format!("{name}.{LANGUAGE}.{form}"),
                problem: format!("there is no such template; there are {}", NAMES.join(", ")),
            });
        };
        let rendered = template.render(Serde(context)).map_err(|error| fault(&file, &error))?;
        if rendered.len() > MAX_BYTES {
            return Err(TemplateError {
                file,
                problem: format!("it makes a letter of more than {MAX_BYTES} bytes"),
            });
        }
        // Runs of empty lines come from parts that are not there.
        Ok(if form == "txt" { tidied(&rendered) } else { rendered })
    }
}

/// The files of a directory, by name.
fn files(directory: &Path, faults: &mut Vec<TemplateError>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut refuse = |file: &str, problem: String| {
        faults.push(TemplateError {
            file: directory.join(file).display().to_string(),
            problem,
        });
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            refuse(
                "",
                format!(
                    "the directory can't be read: {error}; make it, or leave `templates` out to answer by the built-in ones"
                ),
            );
            return found;
        }
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".txt") || name.ends_with(".html"))
        .collect();
    names.sort();
    if names.len() > MAX_FILES {
        refuse("", format!("there are more than {MAX_FILES} templates in it"));
        return found;
    }
    for name in names {
        let parts: Vec<&str> = name.split('.').collect();
        let fits = matches!(parts.as_slice(), [reply, _, _] if reply.starts_with('_') || NAMES.contains(reply));
        if !fits {
            refuse(
                &name,
                format!(
                    "a template is called NAME.LANGUAGE.txt or NAME.LANGUAGE.html, with one of the names {}; parts of \
                         templates begin with _",
                    NAMES.join(", ")
                ),
            );
            continue;
        }
        match fs::read_to_string(directory.join(&name)) {
            Ok(text) if text.len() <= MAX_BYTES => found.push((name, text)),
            Ok(_) => refuse(&name, format!("it is larger than {MAX_BYTES} bytes")),
            Err(error) => refuse(&name, format!("it can't be read: {error}")),
        }
    }
    found
}

/// What went wrong, with the line that the message has not told, and what caused it.
fn fault(file: &str, error: &minijinja::Error) -> TemplateError {
    let mut problem = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        problem.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    TemplateError {
        file: error.name().unwrap_or(file).to_owned(),
        problem,
    }
}

/// Without more than one empty line in a row.
fn tidied(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines() {
        empty = if line.trim().is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            tidied.push_str(line.trim_end());
            tidied.push('\n');
        }
    }
    tidied
}
