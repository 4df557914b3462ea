//! Broken configurations, as the program reports them: every fault with its place, and exit code 2.

use std::fs;

use crate::bot::Home;

/// A broken configuration: its file, further arguments, and what its report must say.
struct Broken {
    name: &'static str,
    file: &'static str,
    text: &'static str,
    arguments: &'static [&'static str],
    says: &'static [&'static str],
}

const BROKEN: [Broken; 13] = [
    Broken {
        name: "TOML syntax",
        file: "bot.toml",
        text: "[mail_order_bot]\nworkers = = 4\n",
        arguments: &[],
        says: &["bot.toml:2:11", "1 fault"],
    },
    Broken {
        name: "YAML syntax",
        file: "bot.yaml",
        text: "mail_order_bot:\n  workers: [4\n",
        arguments: &[],
        says: &["bot.yaml:", "1 fault"],
    },
    Broken {
        name: "JSON syntax",
        file: "bot.json",
        text: "{\n  \"mail_order_bot\": { \"workers\": 4, }\n}\n",
        arguments: &[],
        says: &["bot.json:2:", "1 fault"],
    },
    Broken {
        name: "wrong type",
        file: "bot.toml",
        text: "[mail_order_bot]\nworkers = \"four\"\n",
        arguments: &[],
        says: &["bot.toml:2:11", "mail_order_bot.workers", "four"],
    },
    Broken {
        name: "unknown key",
        file: "bot.toml",
        text: "[mail_order_bot]\nsorce = \"maildir:inbox\"\n",
        arguments: &[],
        says: &["bot.toml:2:1", "sorce", "did you mean", "source"],
    },
    Broken {
        name: "unknown table",
        file: "bot.toml",
        text: "[mail_orderbot]\nworkers = 4\n",
        arguments: &[],
        says: &["bot.toml:1:", "did you mean", "mail_order_bot"],
    },
    Broken {
        name: "missing secret",
        file: "bot.toml",
        text: "[mail_order_bot]\nsource = \"imaps://bot@localhost/INBOX\"\n",
        arguments: &[],
        says: &["bot.toml:2:10", "password_file", "PLBA__MAIL_ORDER_BOT__PASSWORD"],
    },
    Broken {
        name: "an address that others reach, without credentials",
        file: "bot.toml",
        text: "",
        arguments: &["--set", "platform.control.listen=0.0.0.0:8080"],
        says: &["platform.control.listen", "token_file"],
    },
    Broken {
        name: "two faults in one file",
        file: "bot.toml",
        text: "[platform]\nstop_budget = \"soon\"\n\n[mail_order_bot]\nworkers = 0\n",
        arguments: &[],
        says: &["bot.toml:2:15", "bot.toml:5:11", "2 faults"],
    },
    Broken {
        name: "out of range",
        file: "bot.toml",
        text: "[mail_order_bot]\nworkers = 5000\n",
        arguments: &[],
        says: &["bot.toml:2:11", "1 to 256"],
    },
    Broken {
        name: "a scheme nobody knows",
        file: "bot.toml",
        text: "[mail_order_bot]\nsource = \"pop3://host\"\n",
        arguments: &[],
        says: &["bot.toml:2:10", "maildir:", "imaps:"],
    },
    Broken {
        name: "command line",
        file: "bot.toml",
        text: "",
        arguments: &["--set", "mail_order_bot.workers=many"],
        says: &["command line", "mail_order_bot.workers", "many"],
    },
    Broken {
        name: "file and command line",
        file: "bot.toml",
        text: "[mail_order_bot]\nqueue = 7\n",
        arguments: &["--set", "platform.stop_budgt=10s"],
        says: &["bot.toml:2:9", "stop_budget", "2 faults"],
    },
];

#[test]
fn every_fault_of_a_broken_configuration_is_reported_with_its_place() {
    for broken in BROKEN {
        let home = Home::new("broken");
        fs::write(home.join(broken.file), broken.text).unwrap();
        let common = [&["--config", broken.file], broken.arguments].concat();
        for command in ["check", "run"] {
            let output = home.run(&[&common[..], &[command]].concat());
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{} ({command}): {told}", broken.name);
            for part in broken.says {
                assert!(
                    told.contains(part),
                    "{} ({command}): no {part:?} in:\n{told}",
                    broken.name
                );
            }
            assert!(!home.join("var").exists(), "{}: nothing was started", broken.name);
        }
    }
}

#[test]
fn a_password_is_in_no_output() {
    let home = Home::new("secret");
    let secret = "correct horse battery staple";
    let text = format!("[mail_order_bot]\npassword = \"{secret}\"\nsource = \"imaps://bot@localhost/INBOX\"\n");
    fs::write(home.join("bot.toml"), text).unwrap();
    for command in [
        &["check"][..],
        &["config", "show"],
        &["config", "explain", "mail_order_bot.password"],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = home.run(&[&["--config", "bot.toml"], command, json].concat());
            assert!(
                output.status.success(),
                "{command:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let told = [output.stdout, output.stderr].concat();
            assert!(
                !String::from_utf8_lossy(&told).contains("horse"),
                "{command:?} {json:?}"
            );
        }
    }
}

#[test]
fn the_default_configuration_that_is_printed_is_the_default() {
    let home = Home::new("printed");
    let printed = home.run(&["config", "default"]);
    assert!(printed.status.success());
    fs::write(home.join("bot.toml"), &printed.stdout).unwrap();
    let checked = home.run(&["--config", "bot.toml", "check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
