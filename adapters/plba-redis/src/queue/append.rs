//! The common publish: plain tasks of the class `normal` for one queue, enough of them that it pays to have them appended by
//! the server's own command, so that payloads need not pass through a script, which reads each of their bytes. One
//! transaction: a script looks whether all of it is new and fits, and only then there is a stream to append to. For all else
//! there is the script `publish`.

use jiff::Timestamp;
use plba_tasks::task::Priority;
use redis::{Cmd, Value, cmd, pipe};

use super::Inner;
use super::exchange::MOST;
use super::native::back;
use super::publish::{Batch, is_plain};
use super::room::Room;
use crate::failure::{Failure, Kind};
use crate::link::Arguments;
use crate::pack::Packer;
use crate::record::encode;
use crate::reply::Parts;

const DOOR: &str = concat!("#!lua\n", include_str!("../lua/door.lua"));
/// A script takes less than this as fast as a transaction does.
const LEAST: usize = 4 * 1024;

/// Appends all of it, and tells whether it did; if not, nothing was done, and the script will say why.
pub(super) async fn append(inner: &Inner, room: &Room, batch: &Batch) -> Result<bool, Failure> {
    let tasks = &batch.tasks;
    let fits = inner.shared.clock.is_none()
        && inner.confirmed.is_none()
        && (2..=MOST).contains(&tasks.len())
        && tasks.iter().map(|task| task.size()).sum::<usize>() >= LEAST
        && tasks
            .iter()
            .all(|task| task.queue == room.name && task.priority == Priority::Normal && is_plain(task));
    if !fits {
        return Ok(false);
    }
    let (packs, bytes) = packs(batch, inner.shared.now());
    let keys = room.keys();
    let away = format!("{}:away", keys[3]);
    let mut transaction = pipe();
    transaction.atomic();
    transaction.add_command(door(inner, batch, (packs.len(), bytes), keys, &away));
    for pack in packs.iter() {
        let mut add = Cmd::with_capacity(6, pack.len() + away.len() + 32);
        add.arg("XADD").arg(&away).arg("NOMKSTREAM").arg("*").arg("d").arg(pack);
        transaction.add_command(add);
    }
    transaction.add_command(back(keys, &away));
    let answer = match inner.link.transact(&transaction).await {
        Ok(answer) => answer,
        Err(failure) if failure.kind == Kind::Broken => return Err(failure),
        Err(_) => return Ok(false),
    };
    let mut answers = Parts::new("publish", answer)?;
    let mut door = match answers.value()? {
        Value::ServerError(error) => return Err(redis::RedisError::from(error).into()),
        door => Parts::new("publish", door)?,
    };
    if door.text()? != "ok" {
        return Ok(false);
    }
    inner.note_time(&door.text()?);
    for _ in 0..packs.len() {
        match answers.value()? {
            Value::BulkString(_) => {}
            Value::ServerError(error) => return Err(redis::RedisError::from(error).into()),
            _ => return Err(Failure::answer("XADD")),
        }
    }
    Ok(true)
}

/// The packs, and the bytes of their members.
fn packs(batch: &Batch, published: Timestamp) -> (Arguments, usize) {
    let (mut packs, mut packer, mut bytes) = (Arguments::default(), Packer::default(), 0);
    for (task, id) in batch.tasks.iter().zip(&batch.ids) {
        packer.add(&mut packs, task.size(), |data| {
            let before = data.len();
            encode(task, id, published, data);
            bytes += data.len() - before;
        });
    }
    packer.finish(&mut packs);
    (packs, bytes)
}

fn door(inner: &Inner, batch: &Batch, (packs, bytes): (usize, usize), keys: &[String], away: &str) -> Cmd {
    let settings = &inner.shared.settings;
    let tasks = batch.tasks.len();
    let mut door = cmd("EVAL");
    door.arg(DOOR).arg(10);
    for number in [3, 2, 4, 5, 6, 20, 21, 1, 22] {
        door.arg(&keys[number]);
    }
    door.arg(away)
        .arg(settings.capacity)
        .arg(settings.bytes)
        .arg(tasks)
        .arg(bytes)
        .arg(tasks - packs);
    for (task, id) in batch.tasks.iter().zip(&batch.ids) {
        if task.id.is_some() {
            door.arg(id.as_str());
        }
    }
    door
}
