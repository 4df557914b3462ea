//! Spans of time as seconds with a fraction, in everything that is told to programs: people and programs read them more
//! easily than two integers, and every answer says it the same way. For `#[serde(with = "..")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// As it is told, or as journals of earlier versions have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Seconds(f64),
    Parts(Duration),
}

pub(crate) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match Told::deserialize(deserializer)? {
        Told::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom),
        Told::Parts(span) => Ok(span),
    }
}

/// The same for a span that may be missing.
pub(crate) mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    struct Told(#[serde(deserialize_with = "super::deserialize")] Duration);

    pub(crate) fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        span.map(|span| span.as_secs_f64()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Told>::deserialize(deserializer)?.map(|told| told.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, serde::Serialize)]
    struct Spans {
        #[serde(with = "crate::seconds")]
        took: Duration,
        #[serde(with = "crate::seconds::optional")]
        lasts: Option<Duration>,
    }

    #[test]
    fn a_span_is_told_in_seconds_and_read_as_earlier_versions_wrote_it() {
        let spans = Spans {
            took: Duration::from_millis(1_500),
            lasts: None,
        };
        assert_eq!(serde_json::to_string(&spans).unwrap(), r#"{"took":1.5,"lasts":null}"#);
        for text in [
            r#"{"took":1.5,"lasts":null}"#,
            r#"{"took":{"secs":1,"nanos":500000000},"lasts":null}"#,
        ] {
            assert_eq!(serde_json::from_str::<Spans>(text).unwrap(), spans, "{text}");
        }
        assert!(serde_json::from_str::<Spans>(r#"{"took":-1,"lasts":null}"#).is_err());
    }
}
