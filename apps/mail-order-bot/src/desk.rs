//! The desk: the one entry point that turns a raw message into a recorded outcome. It reads, recognises what it has
//! seen, checks, stores and prepares the reply. Blocking and deterministic; what happens around it (tasks, retries,
//! sending) is the composition root's.

mod answers;
mod decide;
mod outcome;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use plba::sql::postgres::PostgresTransaction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authentication::{AuthenticationSettings, Policy, Verdict};
use crate::domain::customer::ProfileError;
use crate::domain::{Catalogue, CustomerProfile, Intent, Order, Profiles, UnknownSenders};
use crate::intake;
use crate::reading::{self, IncomingMail, ReadError, ReadingLimits, WorkbookParser};
use crate::reply::templates::Templates;
use crate::reply::{ReplyOptions, ReplyOptionsError, ReplySettings, etiquette};
use crate::store::{
    self, Attachment, Change, Changed, Channel, KnownMessage, MessageKey, NewMessage, NewOrder, OrderStore, OutboxId,
    PostgresSession, Queued, Recorded, ReviewReason, Session, StoreError,
};

pub use self::answers::shown;
pub use self::decide::{DecideError, Prospect};
pub use self::outcome::{Done, NotAnOrder, ProcessError, Processed};

/// The largest attachment that is kept apart from its mail, in bytes.
const MAX_ATTACHMENT: usize = 10 * 1024 * 1024;

/// How orders are handled. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeskOptions {
    /// How much of a message is read.
    pub limits: ReadingLimits,
    /// How orders are answered.
    pub replies: ReplyOptions,
    /// What is known about customers. Default none.
    pub profiles: Vec<CustomerProfile>,
    /// What happens to orders from other addresses. Default `accept_as_guest`.
    pub unknown_senders: UnknownSenders,
    /// The `List-Id`s of the company's own distribution addresses: mail that comes by one of them is not list mail.
    /// Default none.
    pub own_lists: Vec<String>,
    /// How many days back an order with the same customer and lines is named as a possible duplicate; one with the same
    /// order number of the customer's is, however old it is. 0 switches both off. Default 7.
    pub duplicate_window_days: u32,
}

impl Default for DeskOptions {
    fn default() -> Self {
        Self {
            limits: ReadingLimits::default(),
            replies: ReplyOptions::default(),
            profiles: Vec::new(),
            unknown_senders: UnknownSenders::default(),
            own_lists: Vec::new(),
            duplicate_window_days: 7,
        }
    }
}

/// Faulty [`DeskOptions`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// A profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The reply options.
    #[error(transparent)]
    Replies(#[from] ReplyOptionsError),
}

/// [`DeskOptions`], checked. Made once, without I/O, when configuration is validated.
#[derive(Debug, Clone)]
pub struct DeskSettings {
    pub(crate) limits: ReadingLimits,
    pub(crate) replies: ReplySettings,
    pub(crate) profiles: Profiles,
    pub(crate) unknown_senders: UnknownSenders,
    pub(crate) own_lists: Vec<String>,
    pub(crate) parser: WorkbookParser,
    duplicate_window: SignedDuration,
}

impl DeskOptions {
    /// The defaults, with the customers of the sample mails: what suits the embedded catalogue and inbox.
    #[must_use]
    pub fn for_samples() -> Self {
        // The embedded text is read by a test, so there is no other case.
        Self {
            profiles: crate::samples::profiles().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Checks all options.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn validate(&self) -> Result<DeskSettings, Vec<DeskError>> {
        let mut faults = Vec::new();
        let replies = self.replies.validate().map_err(|fault| faults.push(fault.into())).ok();
        let profiles = Profiles::new(self.profiles.clone())
            .map_err(|errors| faults.extend(errors.into_iter().map(DeskError::from)))
            .ok();
        match (replies, profiles) {
            (Some(replies), Some(profiles)) => Ok(DeskSettings {
                limits: self.limits.clone(),
                replies,
                profiles,
                unknown_senders: self.unknown_senders,
                own_lists: self.own_lists.clone(),
                parser: WorkbookParser::here(),
                duplicate_window: SignedDuration::from_hours(24 * i64::from(self.duplicate_window_days)),
            }),
            _ => Err(faults),
        }
    }
}

impl DeskSettings {
    /// As they are, but workbooks are read by `parser`; at first they are read in this process.
    #[must_use]
    pub fn with_parser(self, parser: WorkbookParser) -> Self {
        Self { parser, ..self }
    }

    /// How mails are answered.
    #[must_use]
    pub fn replies(&self) -> &ReplySettings {
        &self.replies
    }
}

/// What examining a message gave.
#[derive(Debug, Clone)]
pub enum Examined {
    /// It was recorded before.
    Known(Processed),
    /// It is to be recorded.
    New(Box<Message>),
}

/// A message that was read and checked, and is to be recorded.
#[derive(Debug, Clone)]
pub struct Message {
    mail: IncomingMail,
    message: NewMessage,
    finding: Finding,
}

/// What was found in a message.
#[derive(Debug, Clone)]
enum Finding {
    Order(NewOrder),
    Change(Change),
    NotAnOrder(NotAnOrder),
    Review(ReviewReason, String),
}

/// Turns messages into orders. Cheap to clone, shared by all workers.
#[derive(Debug, Clone)]
pub struct OrderDesk {
    catalogue: Arc<Catalogue>,
    settings: Arc<DeskSettings>,
    templates: Templates,
    /// The webhooks that are told of orders, by their names.
    hooks: Arc<[String]>,
    /// What is done with mails whose senders aren't certain.
    authentication: Option<Arc<AuthenticationSettings>>,
    /// What was found out about the sender of the mail that it is given.
    verdict: Option<Arc<Verdict>>,
    store: OrderStore,
}

impl OrderDesk {
    /// A desk that sells what `catalogue` has and stores into `store`. It answers by the built-in templates and tells no
    /// webhooks.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, settings: Arc<DeskSettings>, store: OrderStore) -> Self {
        Self {
            templates: Templates::built_in(settings.replies.language()),
            catalogue,
            settings,
            hooks: Arc::from([]),
            authentication: None,
            verdict: None,
            store,
        }
    }

    /// As it is, but answering by these templates.
    #[must_use]
    pub fn with_templates(self, templates: Templates) -> Self {
        Self { templates, ..self }
    }

    /// As it is, but telling webhooks of these names of orders.
    #[must_use]
    pub fn with_hooks(self, hooks: Vec<String>) -> Self {
        Self {
            hooks: hooks.into(),
            ..self
        }
    }

    /// As it is, but with these policies for mails whose senders aren't certain.
    #[must_use]
    pub fn with_authentication(self, settings: AuthenticationSettings) -> Self {
        Self {
            authentication: Some(Arc::new(settings)),
            ..self
        }
    }

    /// As it is, for a mail about whose sender this was found. It is kept with the mail; where the policy says so, orders
    /// and changes of orders wait on the review list.
    #[must_use]
    pub fn informed(&self, verdict: Option<Verdict>) -> Self {
        Self {
            verdict: verdict.map(Arc::new),
            ..self.clone()
        }
    }

    /// Why the sender has to be looked at by a person, if so.
    fn doubt(&self) -> Option<String> {
        let (settings, verdict) = (self.authentication.as_ref()?, self.verdict.as_ref()?);
        // What is refused does not come here, unless it was parked before the settings said so.
        (settings.policy(verdict) >= Policy::Review).then(|| verdict.to_string())
    }

    /// The store it writes to.
    #[must_use]
    pub fn store(&self) -> &OrderStore {
        &self.store
    }

    /// The templates that it answers by.
    #[must_use]
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// Whether the catalogue has an article of this number or name.
    #[must_use]
    pub fn sells(&self, reference: &str) -> bool {
        self.catalogue.find(reference).is_some()
    }

    /// Processes one raw RFC 5322 message, taken in at `received`. When this returned `Ok`, the outcome is durable; may
    /// be called again with the same message any number of times, from any number of threads.
    ///
    /// # Errors
    /// [`ProcessError`]; nothing was recorded.
    pub fn process(&self, raw: &[u8], received: Timestamp) -> Result<Processed, ProcessError> {
        Ok(self.process_fully(raw, received, None)?.processed)
    }

    /// As [`process`](Self::process), for a message that stands here in its journey (a W3C `traceparent`).
    ///
    /// # Errors
    /// [`ProcessError`]; nothing was recorded.
    pub fn process_on_journey(
        &self,
        raw: &[u8],
        received: Timestamp,
        traceparent: Option<String>,
    ) -> Result<Processed, ProcessError> {
        Ok(self.process_fully(raw, received, traceparent)?.processed)
    }

    /// Does all that needs no writing: reads the message, recognises it, and checks its lines. What is new is to be
    /// [recorded](Self::record_in).
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn examine(
        &self,
        raw: &[u8],
        received: Timestamp,
        traceparent: Option<String>,
    ) -> Result<Examined, ProcessError> {
        let (mail, message) = self.read(raw, received, traceparent)?;
        // Saves a repeated delivery the search for lines; the transaction checks again.
        if let Some(known) = self.store.known(&message.key)? {
            return Ok(Examined::Known(duplicate(known)));
        }
        let finding = self.find(&mail)?;
        Ok(Examined::New(Box::new(Message { mail, message, finding })))
    }

    /// Records an examined message in a transaction on the store's database that somebody else has opened and commits: the
    /// outcome is durable with that commit.
    ///
    /// # Errors
    /// Of the store; the transaction is to be rolled back.
    pub async fn record_in_postgres(
        &self,
        transaction: &mut PostgresTransaction,
        examined: Message,
    ) -> Result<Done, StoreError> {
        let schema = self.store.postgres_schema().unwrap_or_default().to_owned();
        let mut session = PostgresSession::new(transaction, &schema);
        self.record(&mut session, examined).await
    }

    /// The message, read and understood, whether it is known or not.
    fn message(&self, raw: &[u8], now: Timestamp, traceparent: Option<String>) -> Result<Message, ProcessError> {
        let (mail, message) = self.read(raw, now, traceparent)?;
        let finding = self.find(&mail)?;
        Ok(Message { mail, message, finding })
    }

    fn read(
        &self,
        raw: &[u8],
        received: Timestamp,
        traceparent: Option<String>,
    ) -> Result<(IncomingMail, NewMessage), ReadError> {
        let mut mail = reading::read(raw, &self.settings.limits)?;
        mail.forgive_lists(&self.settings.own_lists);
        let attachments = mail
            .leaves
            .iter()
            .filter(|leaf| leaf.attachment || leaf.file_name.is_some());
        let attachments = attachments.filter(|leaf| leaf.bytes.len() <= MAX_ATTACHMENT);
        let message = NewMessage {
            key: MessageKey {
                message_id: mail.message_id.clone(),
                body_hash: mail.body_hash.clone(),
            },
            sender: mail.from.as_ref().map(|from| from.address.clone()).unwrap_or_default(),
            subject: mail.subject.clone(),
            received_at: received,
            traceparent,
            references: mail.references.clone(),
            raw: Arc::from(raw),
            authentication: self.verdict.as_deref().cloned(),
            attachments: attachments
                .map(|leaf| Attachment {
                    file_name: reading::mail::one_line(leaf.file_name.as_deref().unwrap_or_default()),
                    content_type: leaf.content_type.clone(),
                    content: leaf.bytes.clone(),
                })
                .collect(),
            decides: None,
        };
        Ok((mail, message))
    }

    fn find(&self, mail: &IncomingMail) -> Result<Finding, ReadError> {
        let understood = match intake::understand(mail, &self.catalogue, &self.settings)? {
            Ok(understood) => understood,
            Err(reason) => return Ok(Finding::NotAnOrder(reason)),
        };
        if let Some(doubt) = self.doubt() {
            return Ok(Finding::Review(ReviewReason::Authentication, doubt));
        }
        if let Some((reason, detail)) = understood.needs_review(&self.settings) {
            return Ok(Finding::Review(reason, detail));
        }
        let intent = understood.extracted.intent;
        let new = NewOrder {
            customer: understood.customer,
            order_number: understood.extracted.order_number,
            status: understood.checked.status,
            lines: understood.checked.lines,
            total: understood.checked.total,
            currency: self.catalogue.currency().to_owned(),
            notes: understood.extracted.notes,
            duplicate_window: self.settings.duplicate_window,
        };
        Ok(match intent {
            Intent::Order => Finding::Order(new),
            Intent::Amendment => Finding::Change(Change::Amend(new)),
            Intent::Cancellation => Finding::Change(Change::Cancel(new)),
        })
    }

    /// Records what was found, in an open transaction.
    async fn record<S: Session>(&self, session: &mut S, examined: Message) -> Result<Done, StoreError> {
        let Message { mail, message, finding } = examined;
        let correspondent = etiquette::correspondent(&mail).unwrap_or_default();
        let plan = |order: &Order, recent| self.about_order(&mail, &message, order, recent);
        Ok(match finding {
            Finding::Order(order) => {
                stored(store::record::record_order(session, &message, order, correspondent, plan).await?)
            }
            Finding::Change(change) => {
                changed(store::amend::record_change(session, &message, change, correspondent, plan).await?)
            }
            Finding::NotAnOrder(reason) => {
                let plan = |recent| self.about_no_order(&mail, &message, &reason, recent);
                let text = reason.to_string();
                let recorded =
                    store::record::record_not_an_order(session, &message, &text, correspondent, plan).await?;
                not_an_order(recorded, reason)
            }
            Finding::Review(reason, detail) => {
                let recorded = store::review::record_review(session, &message, reason, &detail, correspondent).await?;
                match recorded {
                    Recorded::New { record, queued } => Done {
                        processed: Processed::Review {
                            review: Some(record),
                            reason,
                            detail,
                        },
                        queued,
                    },
                    Recorded::Known(known) => nothing_new(known),
                }
            }
        })
    }
}

fn stored(recorded: Recorded<Order>) -> Done {
    match recorded {
        Recorded::New { record: order, queued } => Done {
            processed: Processed::Stored {
                order_id: order.id,
                status: order.status,
                outbox_id: reply_of(&queued),
                possible_duplicate_of: order.possible_duplicate_of,
            },
            queued,
        },
        Recorded::Known(known) => nothing_new(known),
    }
}

fn changed(recorded: Recorded<Changed>) -> Done {
    let (record, queued) = match recorded {
        Recorded::New { record, queued } => (record, queued),
        Recorded::Known(known) => return nothing_new(known),
    };
    let processed = match record {
        Changed::Order(order) => Processed::Changed {
            order_id: order.id,
            version: order.version,
            status: order.status,
            state: order.state,
            outbox_id: reply_of(&queued),
        },
        Changed::Review { reason, detail } => Processed::Review {
            review: None,
            reason,
            detail,
        },
    };
    Done { processed, queued }
}

fn not_an_order(recorded: Recorded<()>, reason: NotAnOrder) -> Done {
    match recorded {
        Recorded::New { queued, .. } => Done {
            processed: Processed::NotAnOrder {
                reason,
                outbox_id: reply_of(&queued),
            },
            queued,
        },
        Recorded::Known(known) => nothing_new(known),
    }
}

/// Nothing was recorded now. A reply that still waits is to have its task.
fn nothing_new(known: KnownMessage) -> Done {
    let reply = |id: &OutboxId| Queued {
        id: id.clone(),
        channel: Channel::Reply,
    };
    Done {
        queued: known.pending_reply.iter().map(reply).collect(),
        processed: duplicate(known),
    }
}

fn duplicate(known: KnownMessage) -> Processed {
    Processed::Duplicate {
        order_id: known.order_id,
        pending_reply: known.pending_reply,
    }
}

fn reply_of(queued: &[Queued]) -> Option<OutboxId> {
    let reply = queued.iter().find(|queued| queued.channel == Channel::Reply)?;
    Some(reply.id.clone())
}

#[cfg(test)]
mod tests;
