//! Mutated and cut files: never a panic, and always either a configuration or a report with a fault in it.

use super::super::read::reader::tests_support::assemble;
use super::*;

const TOML: &str = "# a bot\n[bot]\nworkers = 5\nsource = \"maildir:var/Grüße\"\npassword = \"hunter2\"\nreplies = { from = 'a', copies = 1 }\n\
                    [[bot.rules]]\nsender = \"\"\"\nx\"\"\"\npriority = 0x1F\n[platform]\nlimit = 1.5e3\n";
const YAML: &str = "bot: &b\n  workers: 5\n  source: \"maildir:var/Gr\\u00fc\u{df}e\"\n  password: |\n    hunter2\n  rules:\n  - &r {sender: x, priority: 1}\n  - *r\n\
                    platform:\n  limit: 1.5\n";
const JSON: &str = "{\"bot\": {\"workers\": 5, \"source\": \"maildir:\\u00fc\",\n \"password\": \"hunter2\", \"rules\": [{\"sender\": \"ß\", \"priority\": 1}]},\n\
                    \"platform\": {\"limit\": 1.5e0}}\n";

const PIECES: [&str; 24] = [
    "[", "]", "{", "}", "\"", "'", "\"\"\"", "=", ":", "\n", "  ", "&a ", "*a ", "- ", "#", "\\", "\0", "\u{FEFF}",
    "🦀", "1e999", "- - ", "? ", "\\ud800", "!x ",
];

/// At most three changes of four bytes each: too few to make the secret part of another key's value.
fn mutated(random: &mut fastrand::Rng, seed: &str) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..=bytes.len());
        let to = random.usize(at..=bytes.len().min(at + 4));
        match random.u8(0..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..to)),
            2 => drop(bytes.splice(at..at, random.choice(PIECES).unwrap().bytes())),
            3 => drop(bytes.splice(at..to, random.choice(PIECES).unwrap().bytes())),
            4 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            _ => {
                let part = bytes[at..to].to_vec();
                let target = random.usize(0..=bytes.len());
                drop(bytes.splice(target..target, part));
            }
        }
    }
    bytes
}

#[test]
fn no_file_makes_it_panic() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut good, mut bad) = (0, 0);
    let directory = Directory::new()
        .file("x.toml", "")
        .file("x.yaml", "")
        .file("x.json", "");
    for _ in 0..1_000 {
        for (index, text) in [TOML, YAML, JSON].into_iter().enumerate() {
            let bytes = mutated(&mut random, text);
            let path = &directory.sources.files[index];
            fs::write(path, &bytes).unwrap();
            let sources = ConfigurationSources {
                files: vec![path.clone()],
                ..ConfigurationSources::default()
            };
            match assemble(definitions(), sources) {
                Ok(configuration) => {
                    good += 1;
                    drop((configuration.show().to_string(), configuration.default_toml()));
                }
                Err(report) => {
                    bad += 1;
                    assert!(!report.faults.is_empty());
                    // A mutation may well move the secret to another key, but what can't be read must not show it.
                    let unread = report.faults.iter().all(|fault| fault.kind == ConfigFaultKind::Syntax);
                    let printed = report.to_string();
                    let text = String::from_utf8_lossy(&bytes);
                    assert!(!unread || !printed.contains("hunter2"), "{printed}\n---\n{text}");
                }
            }
        }
    }
    assert!(good > 200 && bad > 200, "{good} good, {bad} bad");
}
