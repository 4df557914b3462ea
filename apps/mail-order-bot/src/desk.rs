//! The desk: the one entry point that turns a raw message into a recorded outcome. It reads, recognises what it has
//! seen, checks, stores and prepares the reply. Blocking and deterministic; what happens around it (tasks, retries,
//! sending) is the composition root's.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::customer::ProfileError;
use crate::domain::{Catalogue, CustomerProfile, Order, OrderId, OrderStatus, Profiles, UnknownSenders};
use crate::intake;
use crate::reading::{self, IncomingMail, ReadError, ReadingLimits, WorkbookParser};
use crate::reply::compose::{ComposeError, ComposedReply, order_reply, unrecognised_reply};
use crate::reply::{ReplyOptions, ReplyOptionsError, ReplySettings, etiquette};
use crate::store::{
    self, KnownMessage, MessageKey, NewMessage, NewOrder, OrderStore, OutboxId, Recorded, ReplyPlan, StoreError,
};

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
    /// How many days back an order with the same customer and lines is named as a possible duplicate; 0 switches that
    /// off. Default 7.
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
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processed {
    /// A new order is stored.
    Stored {
        /// Its number.
        order_id: OrderId,
        /// Its outcome.
        status: OrderStatus,
        /// The reply in the outbox; `None` when it must not be answered.
        outbox_id: Option<OutboxId>,
        /// A recent order of the same customer for the same.
        possible_duplicate_of: Option<OrderId>,
    },
    /// The message was processed before; nothing was changed.
    Duplicate {
        /// The order it became; `None` when it was not an order.
        order_id: Option<OrderId>,
        /// Its reply, if that still waits in the outbox: relay it again, the hand-over is idempotent.
        pending_reply: Option<OutboxId>,
    },
    /// The message is not an order; that is recorded.
    NotAnOrder {
        /// Why not.
        reason: NotAnOrder,
        /// The reply in the outbox, where the options want one.
        outbox_id: Option<OutboxId>,
    },
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
    found: Result<NewOrder, NotAnOrder>,
}

/// Why a message is not an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOrder {
    /// It has no sender that could be a customer.
    #[error("it names no sender")]
    NoSender,
    /// It comes from the bot's own address.
    #[error("it comes from our own address")]
    OwnMail,
    /// It is machine mail that can't be an order.
    #[error("it is {0}")]
    Automatic(&'static str),
    /// No order lines were found.
    #[error("there are no order lines in it")]
    NoLines,
}

/// A message that could not be processed. Nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The message can't be read; unless that is transient, reject it, so that it is kept as a dead letter.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The store failed; [`ProcessError::is_transient`] says whether to try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ProcessError {
    /// Whether the same message may be processed later: the database was locked or the disk full.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreadable(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}

/// Turns messages into orders. Cheap to clone, shared by all workers.
#[derive(Debug, Clone)]
pub struct OrderDesk {
    catalogue: Arc<Catalogue>,
    settings: Arc<DeskSettings>,
    store: OrderStore,
}

impl OrderDesk {
    /// A desk that sells what `catalogue` has and stores into `store`.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, settings: Arc<DeskSettings>, store: OrderStore) -> Self {
        Self {
            catalogue,
            settings,
            store,
        }
    }

    /// The store it writes to.
    #[must_use]
    pub fn store(&self) -> &OrderStore {
        &self.store
    }

    /// Processes one raw RFC 5322 message, taken in at `received`. When this returned `Ok`, the outcome is durable; may
    /// be called again with the same message any number of times, from any number of threads.
    ///
    /// # Errors
    /// [`ProcessError`]; nothing was recorded.
    pub fn process(&self, raw: &[u8], received: Timestamp) -> Result<Processed, ProcessError> {
        self.process_on_journey(raw, received, None)
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
        match self.examine(raw, received, traceparent)? {
            Examined::Known(processed) => Ok(processed),
            Examined::New(examined) => {
                let Message { mail, message, found } = *examined;
                match found {
                    Ok(order) => self.record_order(&mail, &message, order),
                    Err(reason) => self.record_not_an_order(&mail, &message, reason),
                }
            }
        }
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
        let mut mail = reading::read(raw, &self.settings.limits)?;
        mail.forgive_lists(&self.settings.own_lists);
        let key = MessageKey {
            message_id: mail.message_id.clone(),
            body_hash: mail.body_hash.clone(),
        };
        // Saves a repeated delivery the search for lines; the transaction checks again.
        if let Some(known) = self.store.known(&key)? {
            return Ok(Examined::Known(duplicate(known)));
        }
        let sender = mail.from.as_ref().map(|from| from.address.clone()).unwrap_or_default();
        let message = NewMessage {
            key,
            sender,
            subject: mail.subject.clone(),
            received_at: received,
            traceparent,
        };
        let found = self.read_order(&mail)?;
        Ok(Examined::New(Box::new(Message { mail, message, found })))
    }

    /// Records an examined message in a transaction on the store's file that somebody else has opened and commits: the
    /// outcome is durable with that commit.
    ///
    /// # Errors
    /// Of the store; the transaction is to be rolled back.
    pub fn record_in(&self, transaction: &Connection, examined: Message) -> Result<Processed, StoreError> {
        let Message { mail, message, found } = examined;
        let correspondent = etiquette::correspondent(&mail).unwrap_or_default();
        Ok(match found {
            Ok(order) => {
                let plan = |order: &Order, recent| self.order_plan(&mail, &message, order, recent);
                stored(store::record_order(transaction, &message, order, correspondent, plan)?)
            }
            Err(reason) => {
                let plan = |recent| self.no_order_plan(&mail, &message, &reason, recent);
                let text = reason.to_string();
                let recorded = store::record_not_an_order(transaction, &message, &text, correspondent, plan)?;
                not_an_order(recorded, reason)
            }
        })
    }

    fn read_order(&self, mail: &IncomingMail) -> Result<Result<NewOrder, NotAnOrder>, ReadError> {
        let understood = intake::understand(mail, &self.catalogue, &self.settings)?;
        Ok(understood.map(|understood| NewOrder {
            customer: understood.customer,
            status: understood.checked.status,
            lines: understood.checked.lines,
            total: understood.checked.total,
            currency: self.catalogue.currency().to_owned(),
            notes: understood.extracted.notes,
            duplicate_window: self.settings.duplicate_window,
        }))
    }

    fn record_order(
        &self,
        mail: &IncomingMail,
        message: &NewMessage,
        order: NewOrder,
    ) -> Result<Processed, ProcessError> {
        let plan = |order: &Order, recent| self.order_plan(mail, message, order, recent);
        let correspondent = etiquette::correspondent(mail).unwrap_or_default();
        Ok(stored(self.store.record_order(message, order, correspondent, plan)?))
    }

    fn record_not_an_order(
        &self,
        mail: &IncomingMail,
        message: &NewMessage,
        reason: NotAnOrder,
    ) -> Result<Processed, ProcessError> {
        let plan = |recent| self.no_order_plan(mail, message, &reason, recent);
        let correspondent = etiquette::correspondent(mail).unwrap_or_default();
        let text = reason.to_string();
        let recorded = self.store.record_not_an_order(message, &text, correspondent, plan)?;
        Ok(not_an_order(recorded, reason))
    }

    fn order_plan(&self, mail: &IncomingMail, message: &NewMessage, order: &Order, recent: u64) -> ReplyPlan {
        let id = OutboxId::for_message(&message.key);
        self.plan(mail, recent, |settings| {
            order_reply(order, mail, &id, settings, message.received_at)
        })
    }

    fn no_order_plan(&self, mail: &IncomingMail, message: &NewMessage, reason: &NotAnOrder, recent: u64) -> ReplyPlan {
        if !self.settings.replies.answer_unrecognised || *reason != NotAnOrder::NoLines {
            return ReplyPlan::Withhold("messages that are no orders are not answered".to_owned());
        }
        let id = OutboxId::for_message(&message.key);
        self.plan(mail, recent, |settings| {
            unrecognised_reply(mail, &id, settings, message.received_at)
        })
    }

    /// An answer where it is allowed and possible. A reply that can't be made must not cost the order.
    fn plan(
        &self,
        mail: &IncomingMail,
        recent: u64,
        compose: impl FnOnce(&ReplySettings) -> Result<ComposedReply, ComposeError>,
    ) -> ReplyPlan {
        if let Some(refusal) = etiquette::refusal(mail, &self.settings.replies, recent) {
            return ReplyPlan::Withhold(refusal);
        }
        match compose(&self.settings.replies) {
            Ok(reply) => ReplyPlan::Send {
                recipient: reply.recipient,
                message: reply.message,
            },
            Err(error) => ReplyPlan::Withhold(error.to_string()),
        }
    }
}

fn stored(recorded: Recorded<Order>) -> Processed {
    match recorded {
        Recorded::New {
            record: order,
            outbox_id,
        } => Processed::Stored {
            order_id: order.id,
            status: order.status,
            outbox_id,
            possible_duplicate_of: order.possible_duplicate_of,
        },
        Recorded::Known(known) => duplicate(known),
    }
}

fn not_an_order(recorded: Recorded<()>, reason: NotAnOrder) -> Processed {
    match recorded {
        Recorded::New { outbox_id, .. } => Processed::NotAnOrder { reason, outbox_id },
        Recorded::Known(known) => duplicate(known),
    }
}

fn duplicate(known: KnownMessage) -> Processed {
    Processed::Duplicate {
        order_id: known.order_id,
        pending_reply: known.pending_reply,
    }
}

#[cfg(test)]
mod tests;
