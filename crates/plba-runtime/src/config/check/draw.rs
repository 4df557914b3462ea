//! Draws faults for people: one line that says where and what, then the lines of the source with what is meant marked, then
//! notes and help. The first line stands alone where there is room for no more, such as in a log that is searched by lines.

use std::fmt;

use plba_contracts::config::Origin;

use super::report::{ConfigFault, ConfigReport, Consequence, Excerpt};

/// How wide the column of line numbers is at the least.
const GUTTER: usize = 4;

impl fmt::Display for ConfigReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(out, "{fault}")?;
        }
        let count = match (self.faults.len(), self.omitted) {
            (1, 0) => "1 fault".to_owned(),
            (count, 0) => format!("{count} faults"),
            (count, omitted) => format!("{} faults, of which the first {count} are shown,", count + omitted),
        };
        write!(out, "{count} in the configuration; ")?;
        match self.consequence {
            Consequence::NothingStarted => out.write_str("nothing was started"),
            Consequence::StaysRunning { generation } => {
                write!(out, "the running configuration (generation {generation}) stays")
            }
        }
    }
}

impl ConfigFault {
    /// The first line: where, which key, what.
    pub fn headline(&self) -> String {
        let place = match &self.origin {
            Some(Origin::CommandLine { .. }) => "command line: ".to_owned(),
            Some(origin) => format!("{origin}: "),
            None => String::new(),
        };
        let level = if self.is_warning() { "warning: " } else { "" };
        let key = match self.key.as_str() {
            "" => String::new(),
            key => format!("{key}: "),
        };
        format!("{place}{level}{key}{}", self.message)
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.headline())?;
        let marks = marks(self);
        let numbers = marks.iter().filter_map(|mark| mark.number).max();
        let gutter = numbers.map_or(GUTTER, |number| number.to_string().len().max(GUTTER));
        let drawn = draw(&marks, self.origin.as_ref(), gutter);
        drawn.iter().try_for_each(|line| writeln!(out, "{}", line.trim_end()))?;
        let said = [("note", &self.note), ("help", &self.remedy)];
        for (word, text) in said {
            if let Some(text) = text {
                let mut lines = text.lines();
                writeln!(out, "{:gutter$} = {word}: {}", "", lines.next().unwrap_or_default())?;
                lines.try_for_each(|line| writeln!(out, "{:gutter$}         {line}", ""))?;
            }
        }
        Ok(())
    }
}

/// A marked line.
struct Mark<'a> {
    origin: Option<&'a Origin>,
    /// Only lines of files have numbers.
    number: Option<u32>,
    excerpt: &'a Excerpt,
    sign: char,
    label: &'a str,
}

/// All lines to be shown: those of the fault's own source first, in the order of their lines.
fn marks(fault: &ConfigFault) -> Vec<Mark<'_>> {
    let number = |origin: Option<&Origin>, excerpt: &Excerpt| {
        matches!(origin, Some(Origin::File { .. })).then_some(excerpt.line)
    };
    let own = fault.excerpt.iter().map(|excerpt| Mark {
        origin: fault.origin.as_ref(),
        number: number(fault.origin.as_ref(), excerpt),
        excerpt,
        sign: '^',
        label: fault.label.as_deref().unwrap_or_default(),
    });
    let related = fault.related.iter().filter_map(|place| {
        let excerpt = place.excerpt.as_ref()?;
        Some(Mark {
            origin: Some(&place.origin),
            number: number(Some(&place.origin), excerpt),
            excerpt,
            sign: '-',
            label: &place.label,
        })
    });
    let mut marks: Vec<Mark<'_>> = own.chain(related).collect();
    let elsewhere = |mark: &Mark<'_>| !same_source(mark.origin, fault.origin.as_ref());
    marks.sort_by_key(|mark| (elsewhere(mark), mark.excerpt.line, mark.excerpt.indent));
    marks
}

fn same_source(one: Option<&Origin>, other: Option<&Origin>) -> bool {
    match (one, other) {
        (Some(Origin::File { path: one, .. }), Some(Origin::File { path: other, .. })) => one == other,
        (one, other) => one == other,
    }
}

fn draw(marks: &[Mark<'_>], origin: Option<&Origin>, gutter: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before: Option<&Mark<'_>> = None;
    for mark in marks {
        let previous = before.map_or(origin, |mark| mark.origin);
        let same = same_source(mark.origin, previous);
        if !same && let Some(origin) = mark.origin {
            lines.push(format!("{:gutter$} ::: {origin}", ""));
        }
        let line_before = before.filter(|_| same).map(|mark| mark.excerpt.line);
        if line_before.is_some_and(|line| line + 1 < mark.excerpt.line) {
            lines.push(format!("{:.>gutter$}", ""));
        }
        if line_before != Some(mark.excerpt.line) {
            let number = mark.number.map(|number| number.to_string()).unwrap_or_default();
            lines.push(format!("{number:>gutter$} | {}", mark.excerpt.text));
        }
        let (indent, width) = (mark.excerpt.indent, mark.excerpt.width);
        let signs = mark.sign.to_string().repeat(width);
        lines.push(format!("{:gutter$} | {:indent$}{signs} {}", "", "", mark.label));
        before = Some(mark);
    }
    lines
}
