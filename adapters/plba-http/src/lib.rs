//! plba-http.
