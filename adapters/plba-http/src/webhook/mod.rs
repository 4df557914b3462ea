//! Webhooks, in both directions. The source: signed requests of others become tasks. The [sender](WebhookSender): signed
//! requests to others, with the same signatures.
//!
//! It follows [Standard Webhooks](https://www.standardwebhooks.com) 1.0.0, on a listener of its own: whoever may send
//! webhooks has no business at the control plane, and a flood of them must not keep an operator out. TLS belongs to a proxy
//! in front.
//!
//! **A 2xx means that the task is in the queue**, for as long as that queue's durability says. A request that was accepted is
//! remembered by its id: sent again, within the hook's `remember`, it is answered 2xx and becomes no second task, whatever
//! has become of the first, and whichever process answers, because it is the queue that remembers it (a unique key). Over a
//! queue that ends with the process the source refuses to start, unless `allow_loss` says otherwise: the ledger of sources
//! would know that there was a request, but upstream can't be asked for its body again.
//!
//! | answer | when |
//! |---|---|
//! | 200 | the task is in the queue, now or since an earlier request with this id |
//! | 400 | the id can't be used, or the body is wrongly framed |
//! | 401 | no signature fits, or the timestamp is more than 5 min away |
//! | 404, 405 | there is no such path, or it was no `POST` |
//! | 408, 413, 415 | the body was too slow, too large, compressed, or of another type |
//! | 409 | a request with this id is being worked on at this moment; send it again |
//! | 422 | the task is refused for good, for example because it is larger than the queue takes |
//! | 503 with `Retry-After` | too many requests at once, or the queue is full or can't be reached; nothing was accepted |
//!
//! What it costs at most is `concurrency` times `body_bytes` of memory for each hook; whoever comes above that is refused
//! before the body is read.

mod config;
mod hook;
mod request;
mod sender;
mod signature;
mod source;

pub use config::{HookConfig, Tls, WebhooksConfig};
pub use hook::{Hook, MAXIMUM_SECRETS};
pub use request::{MAXIMUM_ID, TOLERANCE};
pub use sender::{MAXIMUM_BODY, SendError, TargetSettings, WebhookSender};
pub use signature::{SecretError, SigningSecret};
pub use source::{WEBHOOK, WebhookSettings, WebhookSource, webhooks};
