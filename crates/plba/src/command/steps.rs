//! Work on many things, done in steps: each is a call within the time that an answer may take, and says how to go on.

use std::time::Duration;

use plba_contracts::control::{ControlError, Parameters};
use serde_json::{Value, json};

use super::print;

/// Calls, and goes on for as long as the answer says how: the count of the last answer is that of all. What an answer has
/// under `print` is a piece of a document: it is written as it comes, and the answer is then empty.
pub(super) async fn in_steps<F>(call: F, mut parameters: Parameters) -> Result<Value, ControlError>
where
    F: AsyncFn(Parameters) -> Result<Value, ControlError>,
{
    let (mut count, mut printed) = (0, false);
    loop {
        let mut answer = call(parameters).await?;
        if let Some(Value::String(piece)) = answer.as_object_mut().and_then(|fields| fields.remove("print")) {
            print::piece(&piece);
            printed = true;
        }
        count += answer.get("count").and_then(Value::as_u64).unwrap_or(0);
        let go_on = answer.as_object_mut().and_then(|fields| fields.remove("continue"));
        let Some(Value::Object(mut go_on)) = go_on else {
            if printed {
                return Ok(json!({}));
            }
            if let Some(last) = answer.get_mut("count").filter(|last| last.is_u64()) {
                *last = json!(count);
            }
            return Ok(answer);
        };
        if !printed {
            print::progress(&format!("{count} so far …"));
        }
        let pause = go_on.get("after_ms").and_then(Value::as_u64).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        parameters = match go_on.remove("parameters") {
            Some(Value::Object(next)) => next,
            _ => return Ok(answer),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_in_steps_goes_on_until_it_is_done_and_counts_all_of_it() {
        let call = async |parameters: Parameters| {
            let from = parameters.get("from").and_then(Value::as_u64).unwrap_or(0);
            let next = json!({ "after_ms": 0, "parameters": { "from": from + 500 } });
            let more = if from < 1_000 { next } else { Value::Null };
            Ok(json!({ "count": if from < 1_000 { 500 } else { 7 }, "continue": more }))
        };
        let answer = in_steps(call, Parameters::new()).await.unwrap();
        assert_eq!(answer, json!({ "count": 1_007 }));
        let pieces = async |_| Ok(json!({ "count": 1, "print": "" }));
        assert_eq!(in_steps(pieces, Parameters::new()).await.unwrap(), json!({}));
        let view = in_steps(async |_| Ok(json!([1])), Parameters::new()).await.unwrap();
        assert_eq!(view, json!([1]));
    }
}
