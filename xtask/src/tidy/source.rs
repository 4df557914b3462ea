//! Telling a Rust file's code, comments and literals apart, by a scanner that knows no more of the language than that.
//! Each view has the lines and columns of the file, with blanks where something was taken out.

/// The views of a file that rules look at.
#[derive(Debug)]
pub(super) struct Source {
    /// Without comments and the contents of literals.
    pub(super) bare: String,
    /// Without the contents of literals: code and comments.
    pub(super) spoken: String,
    /// Without comments and `#[cfg(test)]` items.
    pub(super) shipped: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Source {
    pub(super) fn new(text: &str) -> Source {
        let kinds = kinds(text.as_bytes());
        let code = view(text, &kinds, |kind| kind != Kind::Comment);
        let bare = view(text, &kinds, |kind| kind == Kind::Code);
        let spoken = view(text, &kinds, |kind| kind != Kind::Literal);
        let shipped = without_tests(&code, &bare);
        Source { bare, spoken, shipped }
    }
}

fn view(text: &str, kinds: &[Kind], keep: fn(Kind) -> bool) -> String {
    let byte = |(byte, kind): (u8, &Kind)| if keep(*kind) || byte == b'\n' { byte } else { b' ' };
    let bytes: Vec<u8> = text.bytes().zip(kinds).map(byte).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What each byte belongs to.
fn kinds(text: &[u8]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let (kind, end) = token(text, at);
        let end = end.min(text.len());
        kinds[at..end].fill(kind);
        at = end;
    }
    kinds
}

/// The kind of what begins here and where it ends.
fn token(text: &[u8], at: usize) -> (Kind, usize) {
    let rest = &text[at..];
    match rest[0] {
        b'/' if rest.starts_with(b"//") => (Kind::Comment, at + position(rest, b'\n')),
        b'/' if rest.starts_with(b"/*") => (Kind::Comment, at + block_comment(rest)),
        b'"' => (Kind::Literal, at + string(rest)),
        b'r' if !follows_name(text, at) => match raw_string(rest) {
            Some(length) => (Kind::Literal, at + length),
            None => (Kind::Code, at + 1),
        },
        b'\'' => match character(rest) {
            Some(length) => (Kind::Literal, at + length),
            None => (Kind::Code, at + 1),
        },
        _ => (Kind::Code, at + 1),
    }
}

fn position(text: &[u8], wanted: u8) -> usize {
    text.iter().position(|byte| *byte == wanted).unwrap_or(text.len())
}

/// Block comments nest.
fn block_comment(text: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < text.len() {
        let step = match &text[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
    }
    at
}

fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `r"…"` or `r#"…"#`; not a raw identifier.
fn raw_string(text: &[u8]) -> Option<usize> {
    let hashes = text[1..].iter().take_while(|byte| **byte == b'#').count();
    if text.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = &text[hashes + 2..];
    let length = body
        .windows(end.len())
        .position(|window| window == end)
        .map(|at| at + end.len());
    Some(hashes + 2 + length.unwrap_or(body.len()))
}

/// `'x'` or `'\n'`; not a lifetime.
fn character(text: &[u8]) -> Option<usize> {
    let first = *text.get(1)?;
    if first == b'\\' {
        return text.get(3..).map(|rest| 3 + position(rest, b'\'') + 1);
    }
    let width = match first {
        0..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    };
    (text.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

/// Whether the byte here continues a name. The `b` of `br"…"` and the `c` of `cr"…"` are no names.
fn follows_name(text: &[u8], at: usize) -> bool {
    let named = |at: usize| text[at].is_ascii_alphanumeric() || text[at] == b'_' || text[at] >= 0x80;
    match at {
        0 => false,
        1 => named(0) && !matches!(text[0], b'b' | b'c'),
        _ => named(at - 1) && (!matches!(text[at - 1], b'b' | b'c') || named(at - 2)),
    }
}

/// Blanks every item under `#[cfg(test)]`, from the attribute to the end of the item's braces.
fn without_tests(code: &str, bare: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = bare[from..].find("#[cfg(test)]") {
        let begin = from + found;
        let end = begin + item_length(&bare.as_bytes()[begin..]);
        bytes[begin..end]
            .iter_mut()
            .filter(|byte| **byte != b'\n')
            .for_each(|byte| *byte = b' ');
        from = end;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Up to the closing brace of the first block, or to a semicolon before any block.
fn item_length(text: &[u8]) -> usize {
    let mut depth = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b';' if depth == 0 => return at + 1,
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str, bare: &str) {
        let source = Source::new(text);
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&source.shipped), code, "code of {text}");
        assert_eq!(squeeze(&source.bare), bare, "bare of {text}");
        assert_eq!(source.shipped.lines().count(), text.lines().count());
    }

    #[test]
    fn code_comments_and_literals_are_told_apart() {
        check("a // \"b\"\nc", "a c", "a c");
        check("a /* b /* c */ d */ e", "a e", "a e");
        check(r#"f("x // y", '"', 'a')"#, r#"f("x // y", '"', 'a')"#, "f( , , )");
        check(
            r##"f(r#"a " b"#, br"\", g)"##,
            r##"f(r#"a " b"#, br"\", g)"##,
            "f( , b , g)",
        );
        check(r"let r#type = '\''; x", r"let r#type = '\''; x", "let r#type = ; x");
        check(
            "fn f<'a>(x: &'a str) {} // é",
            "fn f<'a>(x: &'a str) {}",
            "fn f<'a>(x: &'a str) {}",
        );
        check("f('é', \"\\\"\", b)", "f('é', \"\\\"\", b)", "f( , , b)");
    }

    #[test]
    fn spoken_text_keeps_comments_and_drops_literals() {
        assert_eq!(Source::new("a /* b */ \"c\"").spoken.trim_end(), "a /* b */");
    }

    #[test]
    fn test_items_are_not_shipped() {
        let text = "a\n#[cfg(test)]\nmod tests {\n fn f() { \"}\" }\n}\nb\n#[cfg(test)]\nmod more;\nc\n";
        let source = Source::new(text);
        assert_eq!(source.shipped.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(source.shipped.lines().count(), text.lines().count());
    }

    #[test]
    fn an_unfinished_file_ends_the_scan() {
        for text in ["\"a", "/* a", "r#\"a", "'", "'\\", "b'\\"] {
            assert_eq!(kinds(text.as_bytes()).len(), text.len(), "{text}");
        }
    }
}
