//! Whom a TLS client trusts, as configuration, and the rustls configuration made of it. Servers are not configured here.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whom a TLS client trusts. Certificates and host names are always verified; there is no switch that turns this off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// A PEM file with the certificates of a private authority (default none).
    pub ca: Option<PathBuf>,
    /// Trust nobody but `ca`; without it the authorities of the operating system are trusted too (default false).
    pub only_ca: bool,
}

/// Why no TLS configuration could be made. All of these are faults of the set-up, not of the network.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of the private authority can't be read.
    #[error("cannot read the CA file {}: {source}; check `ca` and the file's permissions", path.display())]
    Unreadable {
        /// The file named in the settings.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file of the private authority holds something else than PEM certificates.
    #[error("the CA file {} holds no usable certificate ({reason}); it must be PEM with BEGIN CERTIFICATE blocks", path.display())]
    Unusable {
        /// The file named in the settings.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `only_ca` without `ca`: nobody would be trusted.
    #[error("`only_ca` needs `ca`, the file of the one authority to trust")]
    OnlyNothing,
    /// The operating system has no trusted authorities and no file was named.
    #[error("the operating system has no trusted certificate authorities ({0}); install ca-certificates or set `ca`")]
    NoRoots(String),
    /// rustls refused the configuration.
    #[error("TLS can't be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

impl TlsSettings {
    /// Builds a client configuration for these settings: TLS 1.2 and 1.3 on ring, independent of any process-wide provider.
    ///
    /// Reads files (the operating system's authorities too, some 300 kB): call it once per connection target, not per
    /// connection, and off the executor's threads if that matters.
    ///
    /// # Errors
    /// See [`TlsError`]. A single malformed authority of the operating system is skipped, not an error.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => add_file(&mut roots, path)?,
            None if self.only_ca => return Err(TlsError::OnlyNothing),
            None => {}
        }
        if !self.only_ca {
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
            if roots.is_empty() {
                let reasons: Vec<String> = native.errors.iter().map(ToString::to_string).collect();
                return Err(TlsError::NoRoots(reasons.join("; ")));
            }
        }
        Ok(roots)
    }
}

fn add_file(roots: &mut RootCertStore, path: &PathBuf) -> Result<(), TlsError> {
    let unusable = |reason: String| TlsError::Unusable {
        path: path.clone(),
        reason,
    };
    let pem = std::fs::read(path).map_err(|source| TlsError::Unreadable {
        path: path.clone(),
        source,
    })?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        Err(unusable("no certificate found".into()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_ca_file_is_named() {
        let settings = TlsSettings {
            ca: Some("/nowhere/ca.pem".into()),
            only_ca: true,
        };
        let error = settings.client_config().unwrap_err();
        assert!(matches!(error, TlsError::Unreadable { .. }));
        assert!(error.to_string().contains("/nowhere/ca.pem"));
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let path = std::env::temp_dir().join(format!("plba-net-{}-not-a-certificate.pem", std::process::id()));
        std::fs::write(&path, "this is not PEM").unwrap();
        let error = TlsSettings {
            ca: Some(path.clone()),
            only_ca: true,
        }
        .client_config()
        .unwrap_err();
        std::fs::remove_file(path).unwrap();
        assert!(matches!(error, TlsError::Unusable { .. }), "{error}");
    }

    #[test]
    fn trusting_nobody_is_refused() {
        let error = TlsSettings {
            ca: None,
            only_ca: true,
        }
        .client_config()
        .unwrap_err();
        assert!(matches!(error, TlsError::OnlyNothing));
    }
}
