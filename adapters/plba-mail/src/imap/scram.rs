//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding. A pure exchange of messages: no
//! connection and no randomness here.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use plba_contracts::secret::Secret;
use ring::{digest, hmac, pbkdf2};

/// The fewest iterations accepted: RFC 7677 section 4 asks for at least 4096.
const FEWEST: u32 = 4096;

/// The most iterations carried out: a server must not be able to keep a thread busy for long.
const MOST: u32 = 200_000;

/// `n,,` in base64: no channel binding, no other authorization identity.
const NO_BINDING: &str = "biws";

#[derive(Debug)]
pub(super) struct Scram {
    first: String,
    nonce: String,
    password: Secret,
    state: State,
}

#[derive(Debug)]
enum State {
    Begin,
    FirstSent,
    FinalSent { signature: Vec<u8> },
    Proven,
}

impl Scram {
    /// An exchange for this account. The error says what can't be done.
    pub(super) fn new(user: &str, password: &Secret, nonce: &str) -> Result<Self, String> {
        // Beyond ASCII, names and passwords would have to be normalised first (RFC 4013); what is sent otherwise is refused
        // for reasons nobody finds.
        let plain = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !plain(user) || !plain(password.expose()) {
            return Err("SCRAM-SHA-256 is done here for ASCII only; use auth=plain for this password".into());
        }
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Ok(Scram {
            first: format!("n={user},r={nonce}"),
            nonce: nonce.to_owned(),
            password: password.clone(),
            state: State::Begin,
        })
    }

    /// Whether the server has proven that it knows the password too.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven)
    }

    /// The answer to the server's next challenge.
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, String> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| "a SCRAM challenge is not text")?;
        match &self.state {
            State::Begin => {
                self.state = State::FirstSent;
                Ok(format!("n,,{}", self.first).into_bytes())
            }
            State::FirstSent => {
                let (last, signature) = self.last(challenge)?;
                self.state = State::FinalSent { signature };
                Ok(last.into_bytes())
            }
            State::FinalSent { signature } => {
                let shown = attribute(challenge, 'v').and_then(|shown| BASE64.decode(shown).ok());
                if shown.as_ref() != Some(signature) {
                    return Err("the server does not know the password: is it the right one?".into());
                }
                self.state = State::Proven;
                Ok(Vec::new())
            }
            State::Proven => Err("the server asks on after the end of SCRAM".into()),
        }
    }

    /// The client's final message, and the signature that the server has to answer with.
    fn last(&self, challenge: &str) -> Result<(String, Vec<u8>), String> {
        let nonce = attribute(challenge, 'r').ok_or("the SCRAM challenge has no nonce")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() <= self.nonce.len() {
            return Err("the SCRAM challenge answers somebody else".into());
        }
        let salt = attribute(challenge, 's').and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or("the SCRAM challenge has no salt")?;
        let rounds = attribute(challenge, 'i').and_then(|rounds| rounds.parse().ok());
        let rounds = rounds
            .filter(|rounds: &NonZeroU32| (FEWEST..=MOST).contains(&rounds.get()))
            .ok_or_else(|| format!("the SCRAM challenge asks for other than {FEWEST} to {MOST} iterations"))?;

        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        let secret = self.password.expose().as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, secret, &mut salted);
        let unproven = format!("c={NO_BINDING},r={nonce}");
        let spoken = format!("{},{challenge},{unproven}", self.first);
        let client_key = mac(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let signature = mac(stored.as_ref(), spoken.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(key, sign)| key ^ sign)
            .collect();
        let expected = mac(&mac(&salted, b"Server Key"), spoken.as_bytes());
        Ok((format!("{unproven},p={}", BASE64.encode(proof)), expected))
    }
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
        .as_ref()
        .to_vec()
}

fn attribute(message: &str, name: char) -> Option<&str> {
    let value = |part: &'_ str| part.starts_with(name) && part[1..].starts_with('=');
    message.split(',').find(|part| value(part)).map(|part| &part[2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677 section 3.
    fn example() -> Scram {
        Scram::new("user", &"pencil".into(), "rOprNGfwEbeRWgbNEkqO").unwrap()
    }

    const FIRST: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const LAST: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let mut scram = example();
        assert_eq!(scram.answer(b"").unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let answer = String::from_utf8(scram.answer(FIRST).unwrap()).unwrap();
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.is_proven());
        assert_eq!(scram.answer(LAST).unwrap(), b"");
        assert!(scram.is_proven());
    }

    #[test]
    fn a_server_that_does_not_play_by_the_rules_is_refused() {
        for challenge in [
            "",
            "r=somebody-else,s=W22Z,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=%,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4000000000",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z",
        ] {
            let mut scram = example();
            scram.answer(b"").unwrap();
            assert!(scram.answer(challenge.as_bytes()).is_err(), "{challenge}");
        }
        let mut scram = example();
        scram.answer(b"").unwrap();
        scram.answer(FIRST).unwrap();
        assert!(scram.answer(b"v=AAAA").is_err() && !scram.is_proven());
    }

    #[test]
    fn names_are_escaped_and_what_would_need_preparation_is_refused() {
        let mut scram = Scram::new("a=b,c", &"x".into(), "n").unwrap();
        assert_eq!(scram.answer(b"").unwrap(), b"n,,n=a=3Db=2Cc,r=n");
        assert!(Scram::new("bot", &"gr\u{fc}n".into(), "n").is_err());
    }
}
