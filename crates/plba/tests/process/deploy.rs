//! The files in `deploy/` keep the promises that the platform's defaults ask of a service manager.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::application::example;

fn deployed(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy")).join(name);
    fs::read_to_string(path).unwrap()
}

/// The number after `key` on the first line that begins with it.
#[track_caller]
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
    let line = line.unwrap_or_else(|| panic!("no {key}"));
    let digits: String = line.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn whoever_stops_the_process_waits_longer_than_its_stop_may_take() {
    let home = example("pulse", "deploy", &[]);
    let budget = number(&home.text(&["config", "default"]).replace('"', ""), "stop_budget = ");
    for (file, key) in [
        ("mail-order-bot.service", "TimeoutStopSec="),
        ("mail-order-bot.yaml", "terminationGracePeriodSeconds:"),
    ] {
        let grace = number(&deployed(file), key);
        assert!(
            grace > budget + 5,
            "{file}: {grace} s of grace for a budget of {budget} s"
        );
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let home = example("pulse", "unit", &[]);
    // The program is not installed where the unit looks for it.
    let unit =
        deployed("mail-order-bot.service").replace("ExecStart=/usr/local/bin/mail-order-bot", "ExecStart=/bin/true");
    let path = home.join("mail-order-bot.service");
    fs::write(&path, unit).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output();
    match verify {
        Ok(verified) => {
            let told = String::from_utf8_lossy(&verified.stderr);
            assert!(verified.status.success() && told.trim().is_empty(), "{told}");
        }
        Err(error) => {
            println!("not run: whether systemd takes the unit, because systemd-analyze can't be started ({error})")
        }
    }
}
