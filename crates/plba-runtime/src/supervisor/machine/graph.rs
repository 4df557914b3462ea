//! The order among workers: whether the definitions fit together, and how long the chains beneath them are. When
//! something starts or stops is decided in the machine.

use std::collections::HashMap;

/// Why definitions don't fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two definitions have the same name.
    #[error("two workers are named \"{0}\"; give one of them another name")]
    Duplicate(String),
    /// A worker is to start after one that does not exist.
    #[error("worker \"{worker}\" starts after \"{after}\", but there is no such worker; {remedy}")]
    Unknown {
        /// Who asks.
        worker: String,
        /// For whom.
        after: String,
        /// What would do.
        remedy: String,
    },
    /// Workers wait for each other in a circle.
    #[error("workers wait for each other in a circle: {0}; take out one `after`")]
    Cycle(String),
}

/// Checks that names are unique, that every dependency exists and that nobody waits for itself.
pub(crate) fn check<'a>(nodes: &[(&'a str, &'a [String])]) -> Result<(), GraphError> {
    let mut index = HashMap::with_capacity(nodes.len());
    for (position, (name, _)) in nodes.iter().enumerate() {
        if index.insert(*name, position).is_some() {
            return Err(GraphError::Duplicate((*name).to_owned()));
        }
    }
    let mut edges = Vec::with_capacity(nodes.len());
    for (name, after) in nodes {
        let mut targets = Vec::with_capacity(after.len());
        for wanted in *after {
            match index.get(wanted.as_str()) {
                Some(&target) => targets.push(target),
                None => return Err(unknown(name, wanted, index.keys())),
            }
        }
        edges.push(targets);
    }
    match cycle(&edges) {
        None => Ok(()),
        Some(circle) => {
            let names: Vec<&str> = circle.iter().map(|&position| nodes[position].0).collect();
            Err(GraphError::Cycle(names.join(" -> ")))
        }
    }
}

fn unknown<'a>(worker: &str, after: &str, known: impl Iterator<Item = &'a &'a str>) -> GraphError {
    let closest = known
        .map(|name| (strsim::jaro_winkler(name, after), *name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(one.1)));
    GraphError::Unknown {
        worker: worker.to_owned(),
        after: after.to_owned(),
        remedy: match closest {
            Some((_, name)) => format!("did you mean \"{name}\"?"),
            None => "register it, or take out the `after`".to_owned(),
        },
    }
}

/// Walks depth first with a stack of its own, because chains may be as long as there are workers.
fn cycle(edges: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    for root in 0..edges.len() {
        if marks[root] != Mark::New {
            continue;
        }
        marks[root] = Mark::Open;
        let mut path = vec![(root, 0)];
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            let Some(&target) = edges[node].get(*next) else {
                marks[node] = Mark::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match marks[target] {
                Mark::Done => {}
                Mark::New => {
                    marks[target] = Mark::Open;
                    path.push((target, 0));
                }
                Mark::Open => {
                    let mut circle: Vec<usize> = path.iter().map(|(node, _)| *node).collect();
                    circle.drain(..circle.iter().position(|&node| node == target).unwrap_or(0));
                    circle.push(target);
                    return Some(circle);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(nodes: &[(&str, &[&str])]) -> Result<(), String> {
        let owned: Vec<(String, Vec<String>)> = nodes
            .iter()
            .map(|(name, after)| ((*name).into(), after.iter().map(|name| (*name).into()).collect()))
            .collect();
        let borrowed: Vec<(&str, &[String])> = owned.iter().map(|(n, a)| (n.as_str(), a.as_slice())).collect();
        check(&borrowed).map_err(|error| error.to_string())
    }

    #[test]
    fn definitions_that_do_not_fit_together_are_named() {
        for (nodes, expected) in [
            (&[("a", &[][..]), ("b", &["a"]), ("c", &["a", "b"])][..], Ok(())),
            (
                &[("a", &[]), ("a", &[])],
                Err("two workers are named \"a\"; give one of them another name"),
            ),
            (
                &[("mail/intake", &["mail/outbux"]), ("mail/outbox", &[])],
                Err(
                    "worker \"mail/intake\" starts after \"mail/outbux\", but there is no such worker; \
                     did you mean \"mail/outbox\"?",
                ),
            ),
            (
                &[("a", &["zebra"])],
                Err("worker \"a\" starts after \"zebra\", but there is no such worker; \
                     register it, or take out the `after`"),
            ),
            (
                &[("start", &["a"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"])],
                Err("workers wait for each other in a circle: a -> b -> c -> a; take out one `after`"),
            ),
            (
                &[("a", &["a"])],
                Err("workers wait for each other in a circle: a -> a; take out one `after`"),
            ),
        ] {
            assert_eq!(checked(nodes), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_workers_is_checked_without_recursion() {
        let names: Vec<String> = (0..100_000).map(|n| format!("w{n}")).collect();
        let after: Vec<Vec<String>> = (0..100_000)
            .map(|n| if n == 0 { vec![] } else { vec![names[n - 1].clone()] })
            .collect();
        let nodes: Vec<(&str, &[String])> = names
            .iter()
            .zip(&after)
            .map(|(n, a)| (n.as_str(), a.as_slice()))
            .collect();
        assert_eq!(check(&nodes), Ok(()));
    }
}
