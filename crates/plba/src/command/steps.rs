//! Work on many things, done in steps: each is a call within the time that an answer may take, and says how to go on.

use std::time::Duration;

use plba_contracts::control::{ControlError, Parameters};
use serde_json::{Value, json};

use super::print;

/// Calls, and goes on for as long as the answer says how: the count of the last answer is that of all.
pub(super) async fn in_steps<F>(call: F, mut parameters: Parameters) -> Result<Value, ControlError>
where
    F: AsyncFn(Parameters) -> Result<Value, ControlError>,
{
    let mut count = 0;
    loop {
        let mut answer = call(parameters).await?;
        count += answer.get("count").and_then(Value::as_u64).unwrap_or(0);
        let go_on = answer.as_object_mut().and_then(|fields| fields.remove("continue"));
        let Some(Value::Object(mut go_on)) = go_on else {
            if let Some(last) = answer.get_mut("count").filter(|last| last.is_u64()) {
                *last = json!(count);
            }
            return Ok(answer);
        };
        print::progress(&format!("{count} so far …"));
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
        let view = in_steps(async |_| Ok(json!([1])), Parameters::new()).await.unwrap();
        assert_eq!(view, json!([1]));
    }
}
