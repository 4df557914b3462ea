//! The platform names no product: invariant 2. Looked at are the code and manifests under `crates/`, not comments,
//! not tests, and not the manifest and wiring of `crates/plba`, whose work it is to name them.

use super::Fault;
use super::tree::Tree;

/// Products, protocols and the crates that speak them, as words; `http_server`, `HttpServer` and `http1` all contain
/// the word `http`.
const PRODUCTS: &[&str] = &[
    "amqp",
    "axum",
    "dovecot",
    "grpc",
    "http",
    "https",
    "hyper",
    "imap",
    "imaps",
    "jmap",
    "kafka",
    "lapin",
    "lettre",
    "maildir",
    "mariadb",
    "mysql",
    "nats",
    "opentelemetry",
    "otlp",
    "pgsql",
    "postfix",
    "postgres",
    "postgresql",
    "prometheus",
    "rabbitmq",
    "redis",
    "rediss",
    "reqwest",
    "rusqlite",
    "smtp",
    "smtps",
    "sql",
    "sqlite",
    "sqlx",
    "tonic",
    "valkey",
];

/// The part of `crates/plba` that names products, and what asks a running application from outside, as its users do.
const WIRING: [&str; 6] = [
    "crates/plba/Cargo.toml",
    "crates/plba/src/lib.rs",
    "crates/plba/src/wiring.rs",
    "crates/plba/src/wiring/",
    "crates/plba/examples/",
    "crates/plba-testkit/src/process.rs",
];

pub(super) fn no_products(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| is_platform(path)) {
        let text = match &file.source {
            Some(source) => source.shipped.clone(),
            None if path.ends_with("Cargo.toml") => without_prose(&file.text),
            None => continue,
        };
        for (at, line) in text.lines().enumerate() {
            for product in products(line) {
                let message = format!(
                    "`{product}` is a product: the platform knows none; say what it needs in a contract and name the \
                     product in an adapter"
                );
                faults.push(Fault::new(path, at + 1, message));
            }
        }
    }
    faults
}

fn is_platform(path: &str) -> bool {
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    path.starts_with("crates/") && !is_test && !WIRING.iter().any(|wiring| path.starts_with(wiring))
}

/// A manifest without comments and descriptions.
fn without_prose(manifest: &str) -> String {
    let kept = |line: &str| {
        let prose = line.trim_start().starts_with("description");
        if prose {
            String::new()
        } else {
            line.split('#').next().unwrap_or_default().to_owned()
        }
    };
    manifest.lines().map(kept).collect::<Vec<_>>().join("\n")
}

/// The products that a line names, each once.
fn products(line: &str) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = Vec::new();
    for (start, name) in names(line) {
        // The scheme of an address for people, as in a link, is not the protocol.
        let is_link = line[start + name.len()..].starts_with("://") && name.starts_with("http");
        let words = words(name);
        let named = PRODUCTS
            .iter()
            .filter(|product| words.iter().any(|word| word == *product));
        for product in named {
            if !is_link && !found.contains(product) {
                found.push(product);
            }
        }
    }
    found
}

/// The names in a line: runs of letters, digits and underscores, with where each starts.
fn names(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter_map(move |name| {
            // Advance past the separator, which may take several bytes.
            let start = at;
            at += name.len() + line[start + name.len()..].chars().next().map_or(0, char::len_utf8);
            (!name.is_empty()).then_some((start, name))
        })
}

/// The words of a name in lower case: split at underscores and where a capital begins, without digits.
fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (at, letter) in letters.iter().enumerate() {
        let after_small = at > 0 && !letters[at - 1].is_uppercase();
        let before_small = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        let begins = letter.is_uppercase() && at > 0 && (after_small || before_small);
        if begins || !letter.is_alphabetic() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut()
            && letter.is_alphabetic()
        {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_into_words() {
        for (name, expected) in [
            ("http_server", "http server"),
            ("HttpServer", "http server"),
            ("HTTPServer", "http server"),
            ("REDIS_URL", "redis url"),
            ("imap4", "imap"),
            ("PgSql2Go", "pg sql go"),
        ] {
            assert_eq!(words(name).join(" "), expected, "{name}");
        }
    }

    #[test]
    fn products_are_found_in_the_platforms_code_and_manifests() {
        for (path, text, expected) in [
            ("crates/plba-runtime/src/a.rs", "fn open_redis() {}", 1),
            ("crates/plba-runtime/src/a.rs", "match scheme { \"imaps\" => 1 }", 1),
            ("crates/plba-runtime/src/a.rs", "struct HttpServer(axum::Router);", 2),
            (
                "crates/plba-runtime/src/a.rs",
                "// as in Redis\n/// `imap://`\nfn f() {}",
                0,
            ),
            (
                "crates/plba-runtime/src/a.rs",
                "const LINK: &str = \"https://example.org\";",
                0,
            ),
            (
                "crates/plba-runtime/src/a.rs",
                "#[cfg(test)]\nmod tests { const A: &str = \"redis://x\"; }",
                0,
            ),
            ("crates/plba-runtime/src/tests.rs", "const A: &str = \"redis://x\";", 0),
            ("crates/plba-runtime/src/a.rs", "let whttp = simap + resql;", 0),
            (
                "crates/plba-runtime/Cargo.toml",
                "# not hyper\ndescription = \"no HTTP\"\nhyper.workspace = true",
                1,
            ),
            ("crates/plba/Cargo.toml", "plba-http.workspace = true", 0),
            ("crates/plba/src/wiring.rs", "plba_http::serve()", 0),
            ("crates/plba/src/app.rs", "plba_http::serve()", 1),
            ("adapters/plba-http/src/lib.rs", "axum::serve()", 0),
        ] {
            assert_eq!(
                no_products(&Tree::of(&[(path, text)])).len(),
                expected,
                "{path}: {text}"
            );
        }
    }
}
