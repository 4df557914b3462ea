//! Passwords and access tokens, read anew for each connection from where the configuration says: a file, a program, or the
//! configuration itself. How they are shown to a server is in `imap::login`.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use plba_contracts::secret::Secret;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::imap::Authentication;
use crate::location::{ImapLocation, Mechanism, TokenSource};
use crate::settings::SourceSettings;

/// How long a program may take to answer with a token.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest token, in bytes.
const LONGEST: u64 = 64 * 1024;

/// What one login needs. The error says what to do.
pub(super) async fn read(location: &ImapLocation, settings: &SourceSettings) -> Result<Authentication, String> {
    let user = location.user.clone();
    let secret = match &location.token {
        Some(TokenSource::File(file)) => first_line("token", settings.directory.join(file)).await?,
        Some(TokenSource::Command(words)) => asked(words, &settings.directory, PATIENCE).await?,
        None => password(location, settings).await?,
    };
    Ok(match location.mechanism {
        Mechanism::Login => Authentication::Password { user, password: secret },
        Mechanism::Plain => Authentication::Plain { user, password: secret },
        Mechanism::ScramSha256 => Authentication::ScramSha256 {
            user,
            password: secret,
            nonce: nonce()?,
        },
        Mechanism::XOAuth2 => Authentication::XOAuth2 { user, token: secret },
    })
}

async fn password(location: &ImapLocation, settings: &SourceSettings) -> Result<Secret, String> {
    let Some(file) = &location.password_file else {
        return settings.password.clone().ok_or_else(|| {
            format!(
                "there is no password for {}; set password_file in the source's URL, or the password in the environment",
                location.name()
            )
        });
    };
    first_line("password", settings.directory.join(file)).await
}

async fn first_line(what: &'static str, path: PathBuf) -> Result<Secret, String> {
    let read = move || {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read the {what} file {}: {error}", path.display()))?;
        line_of(&text).ok_or_else(|| format!("the {what} file {} has an empty first line", path.display()))
    };
    spawn_blocking(read).await.map_err(|error| error.to_string())?
}

fn line_of(text: &str) -> Option<Secret> {
    text.lines().next().filter(|line| !line.is_empty()).map(Into::into)
}

/// Runs a program and takes the first line it writes. It is killed, with what it started, when it takes too long or when
/// nobody waits for it any more.
async fn asked(words: &[String], directory: &Path, patience: Duration) -> Result<Secret, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("token_command names no program".into());
    };
    let failed = |what: String| format!("the token command {program} {what}");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    let started = spawn_blocking(move || command.spawn().map(|child| Program { child }))
        .await
        .map_err(|error| error.to_string())?;
    let mut running = started.map_err(|error| failed(format!("can't be run: {error}")))?;
    let Some(output) = running.child.stdout.take() else {
        return Err(failed("has no output".into()));
    };
    let reading = spawn_blocking(move || {
        let mut text = String::new();
        output.take(LONGEST).read_to_string(&mut text).map(|_| text)
    });
    let text = match timeout(patience, reading).await {
        Err(_) => return Err(failed(format!("took longer than {} s", patience.as_secs()))),
        Ok(read) => read
            .map_err(|error| error.to_string())?
            .map_err(|error| failed(format!("writes what can't be read: {error}")))?,
    };
    let ended = spawn_blocking(move || running.ends_well()).await;
    match (ended.map_err(|error| error.to_string())?, line_of(&text)) {
        (true, Some(token)) => Ok(token),
        (false, _) => Err(failed(
            "failed; what it says of that is in the standard error output".into(),
        )),
        (true, None) => Err(failed("wrote no token".into())),
    }
}

/// A program at work, in a process group of its own, which ends with this value.
struct Program {
    child: Child,
}

impl Program {
    /// Whether a program that has closed its output ends well within a second, since the two are not one instant.
    fn ends_well(&mut self) -> bool {
        for _ in 0..100 {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => std::thread::park_timeout(Duration::from_millis(10)),
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A status means that it has ended and was waited for: its number may be somebody else's by now.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if let Some(group) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            // An error means that it has ended meanwhile.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// 24 random characters without a comma.
fn nonce() -> Result<String, String> {
    let mut bytes = [0; 18];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "this machine gives no random numbers")?;
    Ok(BASE64.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(line: &str, patience: Duration) -> Result<String, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let token = asked(&words, Path::new("/"), patience).await?;
        Ok(token.expose().to_owned())
    }

    #[tokio::test]
    async fn a_programs_first_line_is_the_token() {
        assert_eq!(ask("echo ya29.token", PATIENCE).await.unwrap(), "ya29.token");
        for (line, expected) in [
            ("false", "failed"),
            ("true", "no token"),
            ("/nonexistent/program", "can't be run"),
        ] {
            let error = ask(line, PATIENCE).await.unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed() {
        let begin = std::time::Instant::now();
        let error = ask("sleep 1000", Duration::from_millis(50)).await.unwrap_err();
        assert!(error.contains("took longer"), "{error}");
        // Its reader ends only with it: a runtime that could not end would be the sign of one that goes on.
        assert!(begin.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn nonces_differ_and_hold_no_comma() {
        let [one, two] = [nonce().unwrap(), nonce().unwrap()];
        assert!(one != two && one.len() == 24 && !one.contains(','));
    }
}
