//! The review list: mails that wait for a person, and the two decisions about them.

use plba::control::{ControlError, Endpoint, Parameters};
use plba::services::Services;
use serde_json::{Value, json};

use super::{announce, at_the_desk, decided, failed, reading, source_mail};
use crate::bot::orders::tell;
use crate::bot::parameters::{invalid, number, numbers, text};
use crate::store::review::MAX_REVIEWS;
use crate::store::{Review, ReviewId, ReviewState};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::view::<Vec<Review>, _, _>(
            "review",
            "Lists mails that wait to be looked at, the oldest first",
            list,
        )
        .parameter("state", "open, which is the default, accepted, rejected or all")
        .parameter("after", "only those with a larger number: the next page")
        .parameter("limit", "how many at most, up to 1000; 100 when left out"),
        Endpoint::view::<Value, _, _>("review.show", "Shows one mail of the review list as text", show)
            .words("ids", "a number of the review list"),
        Endpoint::action::<Value, _, _>(
            "review.accept",
            "Processes mails of the review list as orders; the caller vouches for their senders",
            accept,
        )
        .words("ids", "numbers of the review list")
        .parameter(
            "customer",
            "the id of the profile whose orders they are; without it, of guests or of the sender's profile",
        ),
        Endpoint::action::<Value, _, _>(
            "review.reject",
            "Takes mails from the review list; nobody is answered",
            reject,
        )
        .words("ids", "numbers of the review list"),
    ]
}

async fn list(services: Services, parameters: Parameters) -> Result<Vec<Review>, ControlError> {
    let state = match text(&parameters, "state").as_deref() {
        None => Some(ReviewState::Open),
        Some("all") => None,
        Some(word) => {
            let state = ReviewState::ALL.into_iter().find(|state| state.as_str() == word);
            let wrong = || invalid(format!("state takes open, accepted, rejected or all, not {word:?}"));
            Some(state.ok_or_else(wrong)?)
        }
    };
    let after = number(&parameters, "after", i64::MAX as u64)?.unwrap_or(0) as i64;
    let limit = number(&parameters, "limit", MAX_REVIEWS as u64)?.unwrap_or(100) as usize;
    reading(&services, Vec::new(), move |reads| {
        reads.reviews(state, after, limit).map_err(failed)
    })
    .await
}

async fn show(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let [id] = ids(&parameters)?[..] else {
        return Err(invalid("name one mail of the review list by its number"));
    };
    let found = reading(&services, None, move |reads| reads.review(id).map_err(failed)).await?;
    let (review, raw) = found.ok_or_else(|| invalid(format!("there is no review {id}; see `review`")))?;
    let mut whole = serde_json::to_value(review).map_err(failed)?;
    if let Some(fields) = whole.as_object_mut() {
        let text = raw.map_or_else(|| "(not kept any more)".to_owned(), |raw| source_mail::as_text(&raw));
        fields.insert("mail".to_owned(), text.into());
    }
    Ok(whole)
}

async fn accept(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let (ids, customer) = (some_ids(&parameters)?, text(&parameters, "customer"));
    let done = at_the_desk(&services, move |desk, now| {
        // All or as far as it goes: each is a transaction of its own, and those before a fault stay decided.
        let accept = |id: &ReviewId| desk.accept_review(*id, customer.as_deref(), now).map_err(decided);
        ids.iter()
            .map(|id| Ok((*id, accept(id)?)))
            .collect::<Result<Vec<_>, ControlError>>()
    });
    let done = done.await?;
    done.iter().for_each(|(_, done)| tell(&done.processed));
    let shown = done
        .iter()
        .map(|(id, done)| json!({ "review": id, "outcome": source_mail::outcome(&done.processed) }))
        .collect();
    let done: Vec<_> = done.into_iter().map(|(_, done)| done).collect();
    announce(&services, &done).await?;
    Ok(Value::Array(shown))
}

async fn reject(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let ids = some_ids(&parameters)?;
    let rejected = at_the_desk(&services, move |desk, now| {
        let reject = |id: &ReviewId| desk.store().reject_review(*id, now).map_err(failed);
        let unknown = |id: &ReviewId| invalid(format!("no open review has the number {id}; see `review`"));
        let each = |id: &ReviewId| if reject(id)? { Ok(()) } else { Err(unknown(id)) };
        ids.iter().try_for_each(each)?;
        Ok(ids.len())
    });
    Ok(json!({ "count": rejected.await? }))
}

fn ids(parameters: &Parameters) -> Result<Vec<ReviewId>, ControlError> {
    Ok(numbers(parameters, "ids")?.into_iter().map(ReviewId).collect())
}

fn some_ids(parameters: &Parameters) -> Result<Vec<ReviewId>, ControlError> {
    let ids = ids(parameters)?;
    match ids.is_empty() {
        false => Ok(ids),
        true => Err(invalid(
            "name mails of the review list by their numbers, as `review` shows them",
        )),
    }
}
