//! `cargo xtask up`: the servers of the tests, running until Ctrl-C, for trying things by hand.
//! Dovecot always; Redis, PostgreSQL and Exim, a mail server that takes replies, if asked for by `--redis`, `--postgres` and
//! `--smtp`. Another argument names a directory whose
//! files are delivered as messages first.
#![expect(clippy::print_stdout, reason = "a command line speaks on standard output")]

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use plba_testservers::{Dovecot, Exim, PostgresServer, RedisServer};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("up: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let asked = |option: &str| arguments.iter().any(|argument| argument == option);
    let messages = arguments.iter().find(|argument| !argument.starts_with("--"));
    let dovecot = Dovecot::start().await?;
    let redis = match asked("--redis") {
        true => Some(RedisServer::start().await?),
        false => None,
    };
    let postgres = match asked("--postgres") {
        true => Some(PostgresServer::start().await?),
        false => None,
    };
    let smtp = match asked("--smtp") {
        true => Some(Exim::start().await?),
        false => None,
    };
    let delivered = messages
        .map(|directory| deliver(&dovecot, Path::new(directory)))
        .transpose()?
        .unwrap_or(0);
    describe(&dovecot, delivered);
    if let Some(redis) = &redis {
        println!("Redis is up: {}", redis.url());
    }
    if let Some(postgres) = &postgres {
        println!("PostgreSQL is up: {}", postgres.url());
    }
    if let Some(smtp) = &smtp {
        println!("Exim is up; to answer through it:");
        println!(
            "  --set 'mail_order_bot.replies=smtps://{}@localhost:{}?password_file={}&ca={}'",
            smtp.user(),
            smtp.smtps_port(),
            smtp.password_path().display(),
            smtp.ca_path().display()
        );
        println!("What it takes is in {}", smtp.maildir().display());
    }
    println!("Ctrl-C stops everything and removes it");
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
}
