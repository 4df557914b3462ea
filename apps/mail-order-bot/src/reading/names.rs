//! Names that a sender gave to attachments, made harmless: for people to read and for a file to be offered under. Nothing
//! here opens files; a name is never used as a path.

/// Longest name in characters.
const MAX_NAME: usize = 120;
/// Longest extension that is kept when a name is shortened, in characters.
const MAX_EXTENSION: usize = 10;

/// `name` without directories, control characters, marks that turn the writing direction, characters that mean something to
/// a shell, a file system or a browser, and without dots at its ends; `None` if nothing is left.
#[must_use]
pub fn file_name(name: &str) -> Option<String> {
    let line = super::mail::one_line(name);
    let base = line.rsplit(['/', '\\']).next().unwrap_or_default();
    let special = |c: char| "<>:\"|?*;`$&".contains(c);
    let plain: String = base.chars().map(|c| if special(c) { '_' } else { c }).collect();
    let plain = plain.trim_matches(|c: char| c == '.' || c.is_whitespace());
    // Windows takes these for devices, whatever their extension.
    let stem = plain.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered = |device: &str| stem.strip_prefix(device).is_some_and(|rest| rest.len() == 1);
    let device = matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt");
    let name = shortened(plain);
    match (plain.is_empty(), device) {
        (true, _) => None,
        (false, true) => Some(format!("_{name}")),
        (false, false) => Some(name),
    }
}

/// At most [`MAX_NAME`] characters, of which the extension is the last to go.
fn shortened(name: &str) -> String {
    if name.chars().count() <= MAX_NAME {
        return name.to_owned();
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let length = extension.chars().count();
    if length == 0 || length > MAX_EXTENSION {
        return name.chars().take(MAX_NAME).collect();
    }
    let stem: String = name.chars().take(MAX_NAME - length - 1).collect();
    format!("{stem}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_harmless() {
        for (given, made) in [
            ("order.xlsx", Some("order.xlsx")),
            ("Bestellung März.csv", Some("Bestellung März.csv")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\Windows\\system32\\evil.exe", Some("evil.exe")),
            ("..", None),
            ("/", None),
            ("", None),
            ("  .\u{202e} ", None),
            ("order\0.csv\r\nX-Evil: 1", Some("order .csv X-Evil_ 1")),
            // The writing direction turned: shown as `orderxcod.exe`.
            ("order\u{202e}exe.docx", Some("orderexe.docx")),
            (".htaccess", Some("htaccess")),
            ("order.csv::$DATA", Some("order.csv___DATA")),
            ("NUL.csv", Some("_NUL.csv")),
            ("com1", Some("_com1")),
            ("company.csv", Some("company.csv")),
            ("a`rm -rf ~`;.csv", Some("a_rm -rf ~__.csv")),
        ] {
            assert_eq!(file_name(given).as_deref(), made, "{given:?}");
        }
        let long = format!("{}.xlsx", "a".repeat(250));
        let made = file_name(&long).unwrap();
        assert!(made.chars().count() == MAX_NAME && made.ends_with("a.xlsx"), "{made}");
        assert_eq!(file_name(&made), Some(made));
    }
}
