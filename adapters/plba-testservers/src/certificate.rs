//! A private certificate authority and a certificate for `localhost` and 127.0.0.1, made with the `openssl` command:
//! test servers come with it, and it costs no build time. Made anew for each server, valid for a month.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Account;
use crate::{StartError, program};

const WHAT: &str = "the private certificate authority";
const SETTINGS_FILE: &str = "openssl.cnf";
const AUTHORITY_KEY: &str = "ca.key";

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
[signing]
database = index.txt
serial = serial.txt
new_certs_dir = .
default_md = sha256
policy = anything
unique_subject = no
[anything]
commonName = supplied
";

/// Whether a certificate is valid at the time of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Since 2020, and until 2049.
    Valid,
    /// For one day, in 2020.
    Expired,
}

/// Paths of PEM files.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// What clients trust.
    pub(crate) authority: PathBuf,
    /// What the server shows.
    pub(crate) server: PathBuf,
    pub(crate) server_key: PathBuf,
    directory: PathBuf,
}

/// The certificates of a server that was asked for TLS.
pub(crate) fn of<'a>(
    what: &'static str,
    certificates: Option<&'a Certificates>,
) -> Result<&'a Certificates, StartError> {
    certificates.ok_or_else(|| StartError::failed(what, "it has no certificate: ask for TLS in its options"))
}

impl Certificates {
    /// Writes the files into `directory`, readable by the account.
    pub(crate) fn create(directory: &Path, account: &Account) -> Result<Certificates, StartError> {
        let file = |name: &str| directory.join(name);
        let settings = file(SETTINGS_FILE);
        fs::write(&settings, SETTINGS).map_err(|error| StartError::io(WHAT, "write its settings", &error))?;
        let made = Certificates {
            authority: file("ca.pem"),
            server: file("server.pem"),
            server_key: file("server.key"),
            directory: directory.to_owned(),
        };
        let authority_key = file(AUTHORITY_KEY);
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

    /// Writes another certificate for the server's key, one that is or is not valid, into `file`.
    pub(crate) fn sign_again(&self, validity: Validity, file: &Path, account: &Account) -> Result<(), StartError> {
        let path = |name: &str| self.directory.join(name);
        fs::write(path("index.txt"), "").map_err(|error| StartError::io(WHAT, "write its index", &error))?;
        let (request, signed) = (path("server.csr"), path("signed.pem"));
        let mut asking = Command::new("openssl");
        asking
            .args(["req", "-new", "-section", "server_request", "-config"])
            .arg(path(SETTINGS_FILE))
            .arg("-key")
            .arg(&self.server_key)
            .arg("-out")
            .arg(&request);
        program::run(WHAT, &mut asking)?;
        let (from, until) = match validity {
            Validity::Valid => ("20200101000000Z", "20491231000000Z"),
            Validity::Expired => ("20200101000000Z", "20200102000000Z"),
        };
        let mut signing = Command::new("openssl");
        signing
            .current_dir(&self.directory)
            .args([
                "ca",
                "-batch",
                "-notext",
                "-rand_serial",
                "-name",
                "signing",
                "-extensions",
                "server",
            ])
            .args(["-startdate", from, "-enddate", until, "-config"])
            .arg(path(SETTINGS_FILE))
            .arg("-cert")
            .arg(&self.authority)
            .arg("-keyfile")
            .arg(path(AUTHORITY_KEY))
            .arg("-in")
            .arg(&request)
            .arg("-out")
            .arg(&signed);
        program::run(WHAT, &mut signing)?;
        // In one step: a server may read it at any time.
        account
            .own(&signed)
            .and_then(|()| fs::rename(&signed, file))
            .map_err(|error| StartError::io(WHAT, "hand over the certificate", &error))
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
