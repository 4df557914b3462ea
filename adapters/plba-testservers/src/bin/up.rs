//! `cargo xtask up`: the servers of the tests, running until Ctrl-C, for trying things by hand.
//! An argument names a directory whose files are delivered as messages first.
#![expect(clippy::print_stdout, reason = "a command line speaks on standard output")]

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use plba_testservers::Dovecot;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(env::args().nth(1).as_deref()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("up: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(messages: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let dovecot = Dovecot::start().await?;
    let delivered = messages
        .map(|directory| deliver(&dovecot, Path::new(directory)))
        .transpose()?
        .unwrap_or(0);
    describe(&dovecot, delivered);
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    println!("stopping");
    Ok(())
}

/// Delivers every file of the directory, in the order of names.
fn deliver(dovecot: &Dovecot, directory: &Path) -> io::Result<usize> {
    let entries = fs::read_dir(directory).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("can't read the messages in {}: {error}", directory.display()),
        )
    })?;
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    for file in &files {
        dovecot.deliver(dovecot.user(), &fs::read(file)?)?;
    }
    Ok(files.len())
}

fn describe(dovecot: &Dovecot, delivered: usize) {
    let (user, password) = (dovecot.user(), dovecot.password());
    let (plain, tls) = (dovecot.imap_port(), dovecot.imaps_port());
    let source = format!(
        "imaps://{user}@localhost:{tls}/INBOX?mode=poll&password_file={}&ca={}",
        dovecot.password_path().display(),
        dovecot.ca_path().display()
    );
    println!("Dovecot is up: imaps on port {tls}, imap on port {plain}, user {user}, password {password}");
    println!("In its inbox: {delivered} messages; a file put into this directory is another one");
    println!("  {}", dovecot.maildir(user).join("new").display());
    println!("To work on it:");
    println!("  cargo run --bin mail-order-bot -- --set 'mail_order_bot.source={source}'");
    println!("Ctrl-C stops it and removes everything");
}
