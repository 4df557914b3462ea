//! Which span is the innermost one open in a worker: what a hung worker is said to be at. Spans of journeys that are not
//! kept count too. What becomes of finished spans lives in `layer`.

use tracing::span::{Attributes, Id};
use tracing::{Subscriber, dispatcher};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

/// The most spans remembered below one worker; those opened beyond are not named.
const MOST: usize = 64;

/// The spans open below an outermost one, the latest last; kept with that one.
struct Below(Vec<(Id, &'static str)>);

pub(super) struct InnermostLayer;

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for InnermostLayer {
    fn on_new_span(&self, _attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let Some(outermost) = outermost(&span) else { return };
        let mut extensions = outermost.extensions_mut();
        match extensions.get_mut::<Below>() {
            Some(Below(open)) if open.len() < MOST => open.push((id.clone(), span.name())),
            Some(_) => {}
            None => extensions.insert(Below(vec![(id.clone(), span.name())])),
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(outermost) = outermost(&span) else { return };
        if let Some(Below(open)) = outermost.extensions_mut().get_mut::<Below>()
            && let Some(place) = open.iter().rposition(|(other, _)| *other == id)
        {
            open.remove(place);
        }
    }
}

/// The span that is above all others of this one; none for one that is that itself.
fn outermost<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Option<SpanRef<'a, S>> {
    let mut above = span.parent()?;
    while let Some(next) = above.parent() {
        above = next;
    }
    Some(above)
}

/// The name of the innermost span that is open below this outermost one.
pub(crate) fn innermost(outermost: &Id) -> Option<String> {
    dispatcher::get_default(|dispatch| {
        let span = dispatch.downcast_ref::<Registry>()?.span(outermost)?;
        let extensions = span.extensions();
        let Below(open) = extensions.get::<Below>()?;
        open.last().map(|(_, name)| (*name).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use tracing::info_span;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_latest_span_that_is_still_open_is_the_innermost() {
        let _default = tracing::subscriber::set_default(Registry::default().with(InnermostLayer));
        let worker = info_span!(parent: None, "worker");
        let id = worker.id().unwrap();
        assert_eq!(innermost(&id), None);
        let order = info_span!(parent: &worker, "order");
        let price = info_span!(parent: &order, "price");
        assert_eq!(innermost(&id).as_deref(), Some("price"));
        drop(price);
        assert_eq!(innermost(&id).as_deref(), Some("order"));
        drop(order);
        assert_eq!(innermost(&id), None);
    }
}
