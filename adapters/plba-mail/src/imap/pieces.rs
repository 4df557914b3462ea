//! Large messages, fetched in pieces (RFC 9051 section 6.4.5, partial): what is in memory beside the message itself is a piece
//! or two, each has its own time, and a connection that is slow shows progress. Small ones are fetched whole, in `ahead`.

use bytes::{Bytes, BytesMut};

use super::ahead::{Fetched, Wanted};
use super::error::ImapError;
use super::session::ImapSession;

/// How much is asked for at a time, in bytes.
pub(crate) const PIECE: u32 = 512 * 1024;

/// How many pieces are asked for ahead.
const AHEAD: usize = 2;

/// A message on its way.
struct Growing {
    uid: u32,
    /// How large it is, as the server told.
    told: Option<u32>,
    largest: u64,
    body: BytesMut,
    /// Where the next piece begins that has not been asked for,
    next: u32,
    /// and how many are asked for.
    asked: usize,
}

/// What a piece means to the message.
enum Grown {
    /// It goes on.
    More,
    /// That was all.
    Whole,
    /// It is shorter than it was told to be: it may have been deleted meanwhile.
    Doubtful,
    /// It is no longer there.
    Missing,
}

impl ImapSession {
    /// Fetches the body of `uid`, of which the server told this size, in pieces. More than `largest` bytes are
    /// [`ImapError::Unreadable`], and leave the connection usable. Nothing may be asked for ahead.
    pub async fn body_in_pieces(&mut self, uid: u32, told: Option<u32>, largest: u64) -> Fetched {
        let likely = u64::from(told.unwrap_or(PIECE)).min(largest);
        let mut growing = Growing {
            uid,
            told,
            largest,
            body: BytesMut::with_capacity(usize::try_from(likely).unwrap_or_default()),
            next: 0,
            asked: 0,
        };
        let grown = self.grow(&mut growing).await;
        for _ in 0..growing.asked {
            // What was asked for beyond the end, or beside a failure.
            self.fetch_end().await;
        }
        let whole = match grown {
            Ok(Grown::Doubtful) => self.existing(&[uid]).await.map(|existing| !existing.is_empty()),
            Ok(grown) => Ok(!matches!(grown, Grown::Missing)),
            Err(error) => Err(error),
        };
        let here = match whole {
            Ok(true) => vec![(uid, growing.body.freeze())],
            _ => Vec::new(),
        };
        Fetched {
            missing: if here.is_empty() { vec![uid] } else { Vec::new() },
            here,
            ended: whole.map(|_| ()),
        }
    }

    async fn grow(&mut self, growing: &mut Growing) -> Result<Grown, ImapError> {
        loop {
            while growing.asked == 0 || (growing.asked < AHEAD && growing.told.is_some_and(|told| growing.next < told))
            {
                let (uid, offset) = (growing.uid, growing.next);
                let what = format!("{uid} (UID BODY.PEEK[]<{offset}.{PIECE}>)");
                let wanted = Wanted::Piece { uid, offset };
                self.ask(&what, wanted, u64::from(PIECE), growing.largest).await?;
                growing.asked += 1;
                growing.next = offset.saturating_add(PIECE);
            }
            let fetched = self.fetch_end().await;
            growing.asked -= 1;
            fetched.ended?;
            match growing.take(fetched.here.into_iter().next().map(|(_, piece)| piece))? {
                Grown::More => {}
                end => return Ok(end),
            }
            if growing.is_out_of_step() {
                for _ in 0..std::mem::take(&mut growing.asked) {
                    self.fetch_end().await.ended?;
                }
                growing.next = growing.length();
            }
        }
    }
}

impl Growing {
    fn length(&self) -> u32 {
        u32::try_from(self.body.len()).unwrap_or(u32::MAX)
    }

    /// Whether a server has sent less than it was asked for in the middle, so that what else is asked for does not fit.
    fn is_out_of_step(&self) -> bool {
        self.body.len() + self.asked * PIECE as usize != self.next as usize
    }

    fn take(&mut self, piece: Option<Bytes>) -> Result<Grown, ImapError> {
        let before = self.length();
        let Some(piece) = piece else {
            // Some say NIL of what is beyond the end.
            let ended = before > 0 && self.told.is_some_and(|told| before >= told);
            return Ok(if ended { Grown::Whole } else { Grown::Missing });
        };
        if (self.body.len() + piece.len()) as u64 > self.largest {
            return Err(ImapError::Unreadable {
                command: "UID FETCH",
                reason: format!("message {} goes on beyond {} bytes", self.uid, self.largest),
            });
        }
        self.body.extend_from_slice(&piece);
        let reached = self.told.is_none_or(|told| self.length() >= told);
        Ok(match piece.len() {
            0 if reached => Grown::Whole,
            0 => Grown::Doubtful,
            // A server that does not cut has sent all of it.
            length if length > PIECE as usize => Grown::Whole,
            length if length < PIECE as usize && reached => Grown::Whole,
            _ => Grown::More,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::scripted::{Step, answer, logged_in};

    const SIZE: usize = PIECE as usize;

    /// The answer to a piece; `{tag}` as in scripts.
    fn piece(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut answer = format!("* 1 FETCH (UID 5 BODY[]<{offset}> {{{}}}\r\n", bytes.len()).into_bytes();
        answer.extend_from_slice(bytes);
        answer.extend_from_slice(b")\r\n{tag} OK\r\n");
        answer
    }

    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|at| b'a' + (at % 23) as u8).collect()
    }

    /// A server that cuts where it is asked to, for as many pieces as are asked for.
    fn pieces(message: &[u8], count: usize) -> Vec<Step> {
        let each = |number: usize| {
            let (from, to) = (number * SIZE, ((number + 1) * SIZE).min(message.len()));
            answer(
                "UID FETCH 5 (UID BODY.PEEK[]<",
                piece(from, message.get(from..to).unwrap_or_default()),
            )
        };
        (0..count).map(each).chain([answer("NOOP", "{tag} OK\r\n")]).collect()
    }

    async fn whole(steps: Vec<Step>, told: Option<u32>, largest: u64) -> Fetched {
        let mut session = logged_in(steps).await;
        let fetched = session.body_in_pieces(5, told, largest).await;
        session.noop().await.unwrap();
        fetched
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_put_together_whatever_its_size_was_told_to_be() {
        for length in [1, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 3 * SIZE + 7] {
            let message = message(length);
            let full = length / SIZE;
            let told = length as u32;
            // A multiple of the piece is over when nothing more comes.
            for (told, count) in [(Some(told), full + 1), (None, full + 1), (Some(told - 1), full + 1)] {
                let fetched = whole(pieces(&message, count), told, 1 << 30).await;
                fetched.ended.unwrap();
                assert_eq!(fetched.here.len(), 1, "{length}, told {told:?}");
                assert!(fetched.here[0].1 == message, "{length}, told {told:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_sends_less_than_it_was_asked_for_is_asked_from_there_on() {
        let message = message(2 * SIZE);
        let half = SIZE / 2;
        let script = vec![
            answer("BODY.PEEK[]<0.", piece(0, &message[..half])),
            answer("BODY.PEEK[]<524288.", piece(SIZE, &message[SIZE..])),
            answer("BODY.PEEK[]<262144.", piece(half, &message[half..half + SIZE])),
            answer("BODY.PEEK[]<786432.", piece(half + SIZE, &message[half + SIZE..])),
            answer("NOOP", "{tag} OK\r\n"),
        ];
        let fetched = whole(script, Some(message.len() as u32), 1 << 30).await;
        assert!(fetched.here[0].1 == message);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_goes_away_half_way_is_missing_and_not_shorter() {
        let (message, told) = (message(SIZE), Some(3 * SIZE as u32));
        let gone = |answer_to_rest: &'static str, search: &'static str| {
            let mut script = vec![
                answer("BODY.PEEK[]<0.", piece(0, &message)),
                answer("BODY.PEEK[]<524288.", answer_to_rest),
                answer("BODY.PEEK[]<1048576.", answer_to_rest),
            ];
            if !search.is_empty() {
                script.push(answer("UID SEARCH UID 5", search));
            }
            script.push(answer("NOOP", "{tag} OK\r\n"));
            script
        };
        for (rest, search, left) in [
            ("{tag} OK\r\n", "", 0),
            ("* 1 FETCH (UID 5 BODY[] NIL)\r\n{tag} OK\r\n", "", 0),
            (
                "* 1 FETCH (UID 5 BODY[]<524288> \"\")\r\n{tag} OK\r\n",
                "* SEARCH\r\n{tag} OK\r\n",
                0,
            ),
            // Still there: it was the size that was wrong.
            (
                "* 1 FETCH (UID 5 BODY[]<524288> \"\")\r\n{tag} OK\r\n",
                "* SEARCH 5\r\n{tag} OK\r\n",
                1,
            ),
        ] {
            let fetched = whole(gone(rest, search), told, 1 << 30).await;
            fetched.ended.unwrap();
            assert_eq!(
                (fetched.here.len(), fetched.missing.len()),
                (left, 1 - left),
                "{rest} {search}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_without_an_end_is_given_up_and_the_connection_goes_on() {
        let message = message(3 * SIZE);
        let fetched = whole(pieces(&message, 2), None, SIZE as u64 + 1).await;
        assert!(matches!(fetched.ended, Err(ImapError::Unreadable { .. })));
        assert_eq!(fetched.missing, [5]);
        let refused = vec![
            answer("UID FETCH", "{tag} NO [SERVERBUG]\r\n"),
            answer("NOOP", "{tag} OK\r\n"),
        ];
        assert!(matches!(
            whole(refused, None, 10).await.ended,
            Err(ImapError::Refused { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_connection_between_two_pieces_is_no_end_of_the_message() {
        let script = vec![answer("UID FETCH 5", piece(0, &message(SIZE))), Step::Close];
        let mut session = logged_in(script).await;
        let fetched = session.body_in_pieces(5, None, 1 << 30).await;
        assert!(matches!(fetched.ended, Err(ImapError::Lost { .. })));
        assert!(fetched.here.is_empty());
    }
}
