//! Mails that are looked at once more: from the review list, by a person's decision or by changed settings, and the source
//! of an order that is to be read anew.

use std::sync::Arc;

use jiff::Timestamp;

use super::outcome::{Done, NotAnOrder, ProcessError, Processed};
use super::{Examined, Finding, OrderDesk};
use crate::domain::{OrderId, UnknownSenders};
use crate::store::{Review, ReviewId, ReviewReason, StoreError, at_once, writing};

/// Why a mail can't be decided about.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is no such thing, or it is not what is needed; the sentence says what.
    #[error("{0}")]
    Refused(String),
    /// It could not be processed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl From<StoreError> for DecideError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(text) => Self::Refused(text),
            other => Self::Process(other.into()),
        }
    }
}

/// What looking at a mail once more would make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prospect {
    /// An order, with so many lines of which so many are accepted.
    Order {
        /// All lines.
        lines: usize,
        /// Those that are accepted.
        accepted: usize,
    },
    /// A change of an order.
    Change,
    /// Nothing.
    NotAnOrder(NotAnOrder),
    /// It would wait for somebody, still or again.
    Review(String),
}

impl OrderDesk {
    /// Processes a mail of the review list as its sender's order, or as that of `customer`, a profile's id: whoever decides
    /// vouches for it.
    ///
    /// # Errors
    /// [`DecideError`]; nothing was changed.
    pub fn accept_review(&self, id: ReviewId, customer: Option<&str>, now: Timestamp) -> Result<Done, DecideError> {
        let (review, raw) = self.parked(id)?;
        let sender = review.sender;
        let mut desk = self.informed(None);
        let mut settings = (*self.settings).clone();
        settings.unknown_senders = UnknownSenders::AcceptAsGuest;
        if let Some(customer) = customer {
            settings.profiles = settings.profiles.with_sender(customer, &sender).ok_or_else(|| {
                DecideError::Refused(format!(
                    "no profile has the id {customer:?}; see `profiles` in the configuration"
                ))
            })?;
        }
        desk.settings = Arc::new(settings);
        let done = desk.decide(id, &raw, now)?;
        // Whoever vouches for a sender does not make the lines readable.
        match done.processed {
            Processed::Review {
                reason: ReviewReason::Unclear,
                detail,
                ..
            } => Err(DecideError::Refused(format!(
                "it can't become an order: {detail}; answer the customer, and take it from the list by `review reject {id}`"
            ))),
            _ => Ok(done),
        }
    }

    /// Looks at a mail of the review list with today's settings; it stays there if it would still go there. What was found
    /// out about its sender when it came holds: nobody has vouched for it.
    ///
    /// # Errors
    /// [`DecideError`]; nothing was changed.
    pub fn replay_review(&self, id: ReviewId, now: Timestamp) -> Result<Done, DecideError> {
        let (review, raw) = self.parked(id)?;
        self.informed(review.authentication).decide(id, &raw, now)
    }

    /// What [`replay_review`](Self::replay_review) would make of it.
    ///
    /// # Errors
    /// [`DecideError`].
    pub fn prospect_of_review(&self, id: ReviewId, now: Timestamp) -> Result<Prospect, DecideError> {
        let (review, raw) = self.parked(id)?;
        Ok(self.informed(review.authentication).prospect(&raw, now)?)
    }

    /// What processing a mail would make of it, whether it was processed before or not. Nothing is stored.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn prospect(&self, raw: &[u8], now: Timestamp) -> Result<Prospect, ProcessError> {
        let message = self.message(raw, now, None)?;
        Ok(match message.finding {
            Finding::Order(order) => Prospect::Order {
                lines: order.lines.len(),
                accepted: order.lines.iter().filter(|line| line.reason().is_none()).count(),
            },
            Finding::Change(_) => Prospect::Change,
            Finding::NotAnOrder(reason) => Prospect::NotAnOrder(reason),
            Finding::Review(_, detail) => Prospect::Review(detail),
        })
    }

    /// Reads the source mail of an order once more, with today's catalogue and profiles. What comes out otherwise than it is
    /// stored becomes the order's next version, which is answered and told.
    ///
    /// # Errors
    /// [`DecideError`]: the order is not open or was amended, or its mail is not kept any more.
    pub fn reprocess(&self, id: OrderId, now: Timestamp) -> Result<Option<Done>, DecideError> {
        let refused = |text: String| DecideError::Refused(text);
        let reads = self.store.reads();
        let order = reads
            .order(id)?
            .ok_or_else(|| refused(format!("there is no order {id}")))?;
        if order.version > 1 && !self.is_from_first_mail(id)? {
            let text = format!("order {id} was amended by later mails; amend it by another one");
            return Err(refused(text));
        }
        let raw = reads.mails_of(id)?.into_iter().next();
        let (_, raw) = raw.ok_or_else(|| refused(format!("the mail of order {id} is not kept any more")))?;
        let mut message = self.message(&raw, now, None)?;
        let Finding::Order(mut new) = message.finding else {
            return Err(refused(format!(
                "the mail of order {id} is no order by today's settings; cancel it instead"
            )));
        };
        // The mail's customer may have been named on the review list.
        new.customer = order.customer.clone();
        if (&new.lines, new.status, &new.notes) == (&order.lines, order.status, &order.notes) {
            return Ok(None);
        }
        // What is sent about this version is not what was sent about the first.
        message.message.key.body_hash = format!("{}/{}", message.message.key.body_hash, order.version + 1);
        let (mail, message) = (message.mail, message.message);
        let plan = |order: &crate::domain::Order| self.about_order(&mail, &message, order, 0);
        let (order, queued) = self.store.replace(id, &message, new, plan)?;
        Ok(Some(Done {
            processed: Processed::Changed {
                order_id: order.id,
                version: order.version,
                status: order.status,
                state: order.state,
                outbox_id: super::reply_of(&queued),
            },
            queued,
        }))
    }

    /// Whether all versions of an order were read from its first mail.
    fn is_from_first_mail(&self, id: OrderId) -> Result<bool, StoreError> {
        let reads = self.store.reads();
        let first = reads.order(id)?.map(|order| order.message_id).unwrap_or_default();
        let earlier = reads.earlier_versions(id)?;
        Ok(earlier.iter().all(|version| version.replaced_by == first))
    }

    fn parked(&self, id: ReviewId) -> Result<(Review, Vec<u8>), DecideError> {
        let refused = |text: String| DecideError::Refused(text);
        let found = self.store.reads().review(id)?;
        let (review, raw) = found.ok_or_else(|| refused(format!("there is no review {id}; see `review`")))?;
        let raw = raw.ok_or_else(|| refused(format!("the mail of review {id} is not kept any more")))?;
        Ok((review, raw))
    }

    fn decide(&self, id: ReviewId, raw: &[u8], now: Timestamp) -> Result<Done, DecideError> {
        let mut message = self.message(raw, now, None)?;
        message.message.decides = Some(id);
        if let Finding::Review(reason, detail) = message.finding {
            return Ok(Done {
                processed: Processed::Review {
                    review: Some(id),
                    reason,
                    detail,
                },
                queued: Vec::new(),
            });
        }
        Ok(writing!(self.store.database(), session => self.record(session, message).await)?)
    }

    /// What [`process`](Self::process) and the like come to.
    pub(super) fn process_fully(
        &self,
        raw: &[u8],
        received: Timestamp,
        traceparent: Option<String>,
    ) -> Result<Done, ProcessError> {
        match self.examine(raw, received, traceparent)? {
            Examined::Known(processed) => Ok(Done {
                processed,
                queued: Vec::new(),
            }),
            Examined::New(message) => {
                let message = *message;
                Ok(writing!(self.store.database(), session => self.record(session, message).await)?)
            }
        }
    }

    /// Records an examined message in a transaction on the store's file that somebody else has opened and commits: the
    /// outcome is durable with that commit.
    ///
    /// # Errors
    /// Of the store; the transaction is to be rolled back.
    pub fn record_in(&self, transaction: &rusqlite::Connection, examined: super::Message) -> Result<Done, StoreError> {
        let mut session = crate::store::in_file(transaction);
        at_once(self.record(&mut session, examined))
    }
}
