//! Reading `Authentication-Results` (RFC 8601): what a mail server found when it took a message in.

use super::verdict::{Finding, Verdict};

/// Statements of one field that are looked at.
const MAX_STATEMENTS: usize = 50;
/// Nesting of comments that is followed.
const MAX_COMMENT_DEPTH: usize = 20;

/// One statement: `dkim=pass header.d=example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    method: String,
    result: Finding,
    properties: Vec<(String, String)>,
}

/// The verdict of the mail server `trusted` about a message from `author` with these header fields, the topmost first; `None`
/// if it wrote none. Only its topmost field counts: below it may be one that somebody else wrote in its name.
#[must_use]
pub fn verdict<'f>(
    fields: impl IntoIterator<Item = (&'f str, &'f str)>,
    trusted: &str,
    author: Option<&str>,
) -> Option<Verdict> {
    let named = |name: &str| name.eq_ignore_ascii_case("authentication-results");
    let mut found = fields.into_iter().filter(|(name, _)| named(name));
    let statements = found.find_map(|(_, value)| {
        let (server, statements) = read(value)?;
        server.eq_ignore_ascii_case(trusted).then_some(statements)
    })?;
    let mut verdict = Verdict {
        domain: author.map(str::to_owned),
        checked_by: trusted.to_owned(),
        ..Verdict::default()
    };
    for statement in &statements {
        let property = |name: &str| statement.properties.iter().find(|(known, _)| known == name);
        let domain = |names: &[&str]| {
            let value = names.iter().find_map(|name| property(name))?;
            let domain = value.1.rsplit_once('@').map_or(value.1.as_str(), |(_, domain)| domain);
            (!domain.is_empty()).then(|| domain.to_ascii_lowercase())
        };
        let (finding, vouching) = match statement.method.as_str() {
            "dmarc" => {
                // A verdict about another author than the one who would be the customer is none.
                let about = domain(&["header.from"]);
                let same = about.is_none() || about.as_deref() == author;
                verdict.dmarc = if same { statement.result } else { Finding::None };
                continue;
            }
            "dkim" => (&mut verdict.dkim, domain(&["header.d", "header.i"])),
            "spf" => (&mut verdict.spf, domain(&["smtp.mailfrom", "smtp.helo"])),
            _ => continue,
        };
        // Of several signatures the one that holds counts.
        if *finding != Finding::Pass {
            *finding = statement.result;
        }
        if statement.result == Finding::Pass {
            verdict.vouched_by.extend(vouching);
        }
    }
    verdict.conclude();
    Some(verdict)
}

/// The name of the server and its statements.
fn read(value: &str) -> Option<(String, Vec<Statement>)> {
    let plain = plain(value);
    let mut segments = plain.split(';');
    let server = segments.next()?.split_whitespace().next()?.to_owned();
    let statements = segments.take(MAX_STATEMENTS).filter_map(statement).collect();
    Some((server, statements))
}

fn statement(segment: &str) -> Option<Statement> {
    let joined = segment.split('=').map(str::trim).collect::<Vec<_>>().join("=");
    let mut words = joined.split_whitespace().filter_map(|word| word.split_once('='));
    let (method, result) = words.next()?;
    // `dkim/1=pass` names a version of the method.
    let method = method.split('/').next().unwrap_or_default().to_ascii_lowercase();
    Some(Statement {
        method,
        result: Finding::from_word(result),
        properties: words
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
    })
}

/// `value` without comments and quotation marks; what separates words and statements inside quotation marks does not.
fn plain(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for c in value.chars() {
        if escaped {
            escaped = false;
            if depth == 0 {
                plain.push(if c.is_alphanumeric() { c } else { '_' });
            }
            continue;
        }
        match c {
            '\\' if quoted || depth > 0 => escaped = true,
            '"' if depth == 0 => quoted = !quoted,
            '(' if !quoted && depth < MAX_COMMENT_DEPTH => depth += 1,
            ')' if !quoted && depth > 0 => {
                depth -= 1;
                plain.push(' ');
            }
            _ if depth > 0 => {}
            ';' | '=' if quoted => plain.push('_'),
            c if quoted && c.is_whitespace() => plain.push('_'),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::Standing;

    fn judged(fields: &[&str]) -> Option<Verdict> {
        let fields = fields.iter().map(|value| ("Authentication-Results", *value));
        verdict(fields, "mx.shop.example", Some("example.com"))
    }

    #[test]
    fn a_server_is_believed_by_its_name_and_topmost_field() {
        for (field, standing) in [
            ("mx.shop.example; dmarc=pass header.from=example.com", Standing::Pass),
            (
                "MX.shop.example 1; dmarc = pass (p=none) header.from=example.com",
                Standing::Pass,
            ),
            ("mx.shop.example; dmarc=fail header.from=example.com", Standing::Fail),
            ("mx.shop.example; dmarc=pass header.from=other.example", Standing::None),
            ("mx.shop.example; dkim=pass header.d=example.com", Standing::Pass),
            ("mx.shop.example; dkim=pass header.i=@news.example.com", Standing::Pass),
            ("mx.shop.example; dkim=pass header.d=other.example", Standing::None),
            (
                "mx.shop.example; dkim=fail header.d=other.example; dkim=pass header.d=example.com",
                Standing::Pass,
            ),
            (
                "mx.shop.example; spf=pass smtp.mailfrom=bounce@example.com",
                Standing::Pass,
            ),
            ("mx.shop.example; spf=fail smtp.mailfrom=example.com", Standing::Fail),
            (
                "mx.shop.example; spf=softfail smtp.mailfrom=example.com; dmarc=none",
                Standing::None,
            ),
            (
                "mx.shop.example (a (nested) comment; dmarc=pass); dmarc=fail",
                Standing::Fail,
            ),
            ("mx.shop.example; dmarc=fail reason=\"x; dmarc=pass\"", Standing::Fail),
            ("mx.shop.example; none", Standing::None),
        ] {
            assert_eq!(judged(&[field]).unwrap().standing, standing, "{field}");
        }
        assert_eq!(judged(&["evil.example; dmarc=pass"]), None);
        assert_eq!(judged(&["mx.shop.example.evil.example; dmarc=pass"]), None);
        assert_eq!(judged(&["", ";;;", "((((", "(mx.shop.example; dmarc=pass"]), None);
        let forged_below = ["mx.shop.example; dmarc=fail", "mx.shop.example; dmarc=pass"];
        assert_eq!(judged(&forged_below).unwrap().standing, Standing::Fail);
    }

    #[test]
    fn fields_without_end_cost_no_more_than_their_length() {
        for piece in ["(", "\"", ";", "=", "dkim=pass ", "\\"] {
            judged(&[&format!("mx.shop.example; {}", piece.repeat(100_000))]);
        }
    }
}
