//! plba-mail.
