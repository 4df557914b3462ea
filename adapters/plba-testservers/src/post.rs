//! What the servers of mail do alike: a plain port and one for TLS, and one password that every user has. How such a server is
//! ended and started again is `post!`; what it serves is said by the server.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::certificate::Certificates;
use crate::directory::TemporaryDirectory;
use crate::served::Ground;
use crate::{StartError, port};

/// Every user's password.
pub(crate) const PASSWORD: &str = "secret";

const PASSWORD_FILE: &str = "password";

/// What a server of mail stands on.
#[derive(Debug)]
pub(crate) struct Post {
    // Dropped first: processes end before anything else goes.
    pub(crate) ground: Ground,
    pub(crate) program: PathBuf,
    pub(crate) certificates: Certificates,
    /// The port for plain connections.
    pub(crate) plain: u16,
    /// The port for connections that begin with TLS.
    pub(crate) tls: u16,
}

impl Post {
    /// Everything but configuration and process: a directory called after the server, certificates, ports, the password's file.
    pub(crate) fn prepare(
        what: &'static str,
        name: &str,
        program: &Path,
        account: Account,
    ) -> Result<Post, StartError> {
        let failed = |doing: &'static str| move |error: io::Error| StartError::io(what, doing, &error);
        let directory = TemporaryDirectory::create(name, &account).map_err(failed("make a directory"))?;
        let certificates = Certificates::create(directory.path(), &account)?;
        let [plain, tls] = port::free_ports().map_err(failed("find ports"))?;
        write_password(&directory.join(PASSWORD_FILE)).map_err(failed("write the password's file"))?;
        Ok(Post {
            ground: Ground::new(account, directory),
            program: program.to_owned(),
            certificates,
            plain,
            tls,
        })
    }

    /// The file that holds the password.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.ground.directory.join(PASSWORD_FILE)
    }
}

/// Not handed to the server's account: clients read it.
fn write_password(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{PASSWORD}")
}

/// The public methods of a server of mail: for a type with a field `server`, an `Arc` of something that is `Served` and has a
/// [`Post`] as `post`.
macro_rules! post {
    ($server:ty, $user:expr) => {
        impl $server {
            /// The PEM file of the private certificate authority that clients have to trust; the certificate names `localhost`
            /// and 127.0.0.1.
            pub fn ca_path(&self) -> &Path {
                &self.server.post.certificates.authority
            }

            /// The user that tests are when any will do. Other names work too.
            pub fn user(&self) -> &str {
                $user
            }

            /// The password of every user.
            pub fn password(&self) -> &str {
                $crate::post::PASSWORD
            }

            /// A file, readable by its owner only, whose first line is the password.
            pub fn password_path(&self) -> PathBuf {
                self.server.post.password_file()
            }

            /// Kills the server with all its connections. Mails and ports stay; [`restart`](Self::restart) brings it back.
            pub async fn stop(&self) {
                let server = Arc::clone(&self.server);
                blocking(move || server.kill()).await;
            }

            /// Kills the server and starts it again on the same ports, with the same mails and certificates.
            ///
            /// # Errors
            ///
            /// [`StartError::Failed`] when it doesn't come up; the server is then stopped.
            pub async fn restart(&self) -> Result<(), StartError> {
                let server = Arc::clone(&self.server);
                blocking(move || {
                    // Ended before the next one starts: both want the ports.
                    server.kill();
                    server.run_again()
                })
                .await
            }
        }
    };
}

pub(crate) use post;
