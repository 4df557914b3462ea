//! The control plane's token, changed while the process runs: the new one counts from the reload on, and the old one no more.

use std::fs;

use rustix::process::Signal;

use crate::application::{Application, example};

const FIRST: &str = "first-token-of-at-least-32-characters";
const SECOND: &str = "second-token-of-at-least-32-characters";
const THIRD: &str = "third-token-of-at-least-32-characters";

fn known(app: &Application, token: &str) -> Option<u16> {
    let header = format!("Authorization: Bearer {token}\r\n");
    app.request("/api/v1/status", &header).map(|(status, _)| status)
}

#[test]
fn a_reload_reads_the_token_again_and_the_one_before_ends() {
    let home = example("pulse", "tokens", &[]);
    let configure =
        |control: &str| fs::write(home.join("pulse.toml"), format!("[platform.control]\n{control}\n")).unwrap();
    fs::write(home.join("token"), FIRST).unwrap();
    configure("token_file = \"token\"");
    let mut app = home.start(&["--config", "pulse.toml"]);
    app.wait("an answer", |app| (known(app, FIRST) == Some(200)).then_some(()));
    assert_eq!(known(&app, SECOND), Some(401));

    // Another one in the same file, though no value of the configuration has changed.
    fs::write(home.join("token"), format!("{SECOND}\n")).unwrap();
    assert_eq!(known(&app, SECOND), Some(401), "nobody has asked for a reload");
    app.signal(Signal::HUP);
    app.wait("the second one to count", |app| {
        (known(app, SECOND) == Some(200)).then_some(())
    });
    assert_eq!(known(&app, FIRST), Some(401));

    // What can't be a token, or is not there, changes nothing.
    fs::write(home.join("token"), "short").unwrap();
    app.signal(Signal::HUP);
    app.wait_for_line("is shorter than 32 characters");
    fs::remove_file(home.join("token")).unwrap();
    app.signal(Signal::HUP);
    app.wait_for_line("can't be read");
    assert_eq!((known(&app, SECOND), known(&app, "short")), (Some(200), Some(401)));

    // From elsewhere.
    configure(&format!("token = \"{THIRD}\""));
    app.signal(Signal::HUP);
    app.wait("the third one to count", |app| {
        (known(app, THIRD) == Some(200)).then_some(())
    });
    assert_eq!(known(&app, SECOND), Some(401));
    assert!(
        !app.log().contains(THIRD) && !app.log().contains("take effect at the next start"),
        "{}",
        app.log()
    );
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}
