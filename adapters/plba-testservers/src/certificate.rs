//! A private certificate authority and a certificate for `localhost` and 127.0.0.1, made with the `openssl` command:
//! test servers come with it, and it costs no build time. Made anew for each server, valid for a month.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Account;
use crate::{StartError, program};

const WHAT: &str = "the private certificate authority";

/// Own settings, so that the machine's `openssl.cnf` has no say. Without `CA:FALSE` on the leaf rustls refuses it.
const SETTINGS: &str = "\
[authority_request]
distinguished_name = authority_name
prompt = no
[authority_name]
CN = plba test authority
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server_request]
distinguished_name = server_name
prompt = no
[server_name]
CN = localhost
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
";

/// Paths of PEM files.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// What clients trust.
    pub(crate) authority: PathBuf,
    /// What the server shows.
    pub(crate) server: PathBuf,
    pub(crate) server_key: PathBuf,
}

impl Certificates {
    /// Writes the files into `directory`, readable by the account.
    pub(crate) fn create(directory: &Path, account: &Account) -> Result<Certificates, StartError> {
        let file = |name: &str| directory.join(name);
        let settings = file("openssl.cnf");
        fs::write(&settings, SETTINGS).map_err(|error| StartError::io(WHAT, "write its settings", &error))?;
        let made = Certificates {
            authority: file("ca.pem"),
            server: file("server.pem"),
            server_key: file("server.key"),
        };
        let authority_key = file("ca.key");
        request("authority", &settings, &made.authority, &authority_key, None)?;
        request(
            "server",
            &settings,
            &made.server,
            &made.server_key,
            Some((&made.authority, &authority_key)),
        )?;
        for path in [&made.server, &made.server_key] {
            account
                .own(path)
                .map_err(|error| StartError::io(WHAT, "hand over the certificate", &error))?;
        }
        Ok(made)
    }
}

/// Makes a key and a certificate, signed by `issuer` (certificate, key) or by itself.
fn request(
    role: &str,
    settings: &Path,
    certificate: &Path,
    key: &Path,
    issuer: Option<(&Path, &Path)>,
) -> Result<(), StartError> {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "30",
    ]);
    openssl
        .arg("-config")
        .arg(settings)
        .args(["-section", &format!("{role}_request"), "-extensions", role]);
    openssl.arg("-out").arg(certificate).arg("-keyout").arg(key);
    if let Some((issuer, issuer_key)) = issuer {
        openssl.arg("-CA").arg(issuer).arg("-CAkey").arg(issuer_key);
    }
    program::run(WHAT, &mut openssl).map(drop)
}
