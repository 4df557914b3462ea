//! The holder's side of ending: endings sorted by what they need, and sent as one job, alone or with a wish for more. The
//! transaction is in [`super::end`], that of effects in [`super::effects`].

use plba_tasks::queue::{ConsumerId, EndError, Ending, Exchange, How, QueueError};
use plba_tasks::task::QueueName;

use super::end::{self, Finish};
use super::take::Wish;
use super::{consume, effects};
use crate::sqlite::database::Database;

/// Endings, sorted by what they need.
#[derive(Default)]
struct Prepared {
    outcomes: Vec<Result<(), EndError>>,
    finishes: Vec<(usize, Finish)>,
    completions: Vec<effects::Completion>,
    /// Where the completions stand.
    places: Vec<usize>,
}

impl Prepared {
    /// Sorts endings.
    fn new(database: &Database, endings: Vec<Ending>) -> Self {
        let now = database.shared.clock.now();
        let mut prepared = Self::default();
        for (place, ending) in endings.into_iter().enumerate() {
            prepared.outcomes.push(Ok(()));
            match ending {
                Ending {
                    token,
                    how:
                        How::Ack {
                            effect: Some(effect),
                            then,
                        },
                } => {
                    prepared.places.push(place);
                    prepared.completions.push(effects::Completion { token, effect, then });
                }
                ending => match Finish::new(ending, &database.shared.settings, now) {
                    Ok(finish) => prepared.finishes.push((place, finish)),
                    Err(error) => prepared.outcomes[place] = Err(error),
                },
            }
        }
        prepared
    }
}

/// Ends deliveries; one outcome for each, in order.
pub(super) async fn end(database: &Database, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
    let Prepared {
        mut outcomes,
        mut finishes,
        completions,
        places,
    } = Prepared::new(database, endings);
    if !finishes.is_empty() {
        let ended = database.write(move |session| {
            let end = |(place, finish): &mut (usize, Finish)| Ok((*place, end::end(session, finish)?));
            finishes.iter_mut().map(end).collect::<rusqlite::Result<Vec<_>>>()
        });
        for (place, outcome) in ended.await? {
            outcomes[place] = outcome;
        }
    }
    if !completions.is_empty() {
        let ended = effects::complete(&database.shared, completions).await;
        for (place, outcome) in places.into_iter().zip(ended) {
            outcomes[place] = outcome;
        }
    }
    Ok(outcomes)
}

/// Ends deliveries and takes more in one transaction.
pub(super) async fn exchange(
    database: &Database,
    endings: Vec<Ending>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Exchange {
    let shared = &database.shared;
    let wish = (max > 0).then(|| Wish {
        queue: queue.clone(),
        holder: consumer.to_string().into(),
        presence: consumer.incarnation.presence.clone(),
        max,
    });
    let Prepared {
        mut outcomes,
        finishes,
        completions,
        places,
    } = Prepared::new(database, endings);
    if !completions.is_empty() {
        let ended = effects::complete(shared, completions).await;
        for (place, outcome) in places.into_iter().zip(ended) {
            outcomes[place] = outcome;
        }
    }
    if finishes.is_empty() && wish.is_none() {
        return Exchange {
            ended: Ok(outcomes),
            taken: Ok(Vec::new()),
        };
    }
    match consume::exchange(shared, finishes, wish).await {
        Ok((ended, taken)) => {
            for (place, outcome) in ended {
                outcomes[place] = outcome;
            }
            Exchange {
                ended: Ok(outcomes),
                taken,
            }
        }
        Err(failure) => Exchange {
            ended: Err(failure.clone().into()),
            taken: Err(failure.into()),
        },
    }
}
