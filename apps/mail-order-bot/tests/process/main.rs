//! The bot as its users run it: the real program in a process of its own, on real directories and a real mail server.
//! What single parts promise is tested beside them.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod bot;
mod changes;
mod configurations;
mod database;
mod default_run;
mod desk;
mod dns;
mod explain;
mod fuzz;
mod hostile;
mod journeys;
mod log_files;
mod loops;
mod mailbox;
mod one_file;
mod reloads;
mod senders;
mod shared;
mod signals;
mod sources;
