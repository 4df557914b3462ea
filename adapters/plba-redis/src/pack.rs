//! Packs: plain tasks that were published together and are kept as one entry. The data: 2, the number of members (1 byte),
//! and of each its length (4 bytes, the greater first) and its data. `lua/packs.lua` says what becomes of them.

use bytes::{Buf, Bytes};

use crate::link::Arguments;

const VERSION: u8 = 2;
/// How many members a pack may have. They share a lease, and one consumer has all of them in hand.
const MEMBERS: u8 = 32;
/// A pack takes no further member once it has so many bytes.
const BYTES: usize = 16 * 1024;
/// The bytes of a member's length.
const LENGTH: usize = 4;

/// Makes packs of tasks, in order, each an argument of a script.
#[derive(Default)]
pub(crate) struct Packer {
    /// Where the pack that is being made begins.
    start: usize,
    members: u8,
    /// How many arguments there are.
    units: usize,
}

impl Packer {
    /// Adds a task of about this size, as `write` writes it.
    pub(crate) fn add(&mut self, arguments: &mut Arguments, size: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.members == MEMBERS || arguments.writer().len() + size > self.start + BYTES {
            self.finish(arguments);
        }
        let data = arguments.writer();
        if self.members == 0 {
            self.start = data.len();
            data.extend_from_slice(&[VERSION, 0]);
        }
        self.members += 1;
        let at = data.len();
        data.extend_from_slice(&[0; LENGTH]);
        write(data);
        // Lengths are checked before: see `task_bytes`.
        let length = u32::try_from(data.len() - at - LENGTH).unwrap_or(u32::MAX);
        data[at..at + LENGTH].copy_from_slice(&length.to_be_bytes());
    }

    /// Adds a task that is in no pack.
    pub(crate) fn alone(&mut self, arguments: &mut Arguments, write: impl FnOnce(&mut Vec<u8>)) {
        self.finish(arguments);
        write(arguments.writer());
        arguments.close();
        self.units += 1;
    }

    /// Ends the pack that is being made; one task alone is none. Gives how many arguments there are.
    pub(crate) fn finish(&mut self, arguments: &mut Arguments) -> usize {
        let data = arguments.writer();
        match self.members {
            0 => return self.units,
            1 => drop(data.drain(self.start..self.start + 2 + LENGTH)),
            members => data[self.start + 1] = members,
        }
        arguments.close();
        self.members = 0;
        self.units += 1;
        self.units
    }
}

/// Whether a record's data are a pack's, or were meant to be.
pub(crate) fn is_pack(data: &[u8]) -> bool {
    data.first() == Some(&VERSION)
}

/// The members' data; `None` for what no program has written.
pub(crate) fn members(mut data: Bytes) -> Option<Vec<Bytes>> {
    if data.len() < 2 || data.get_u8() != VERSION {
        return None;
    }
    let count = data.get_u8();
    let mut members = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let length = data.try_get_u32().ok()? as usize;
        if data.len() < length {
            return None;
        }
        members.push(data.split_to(length));
    }
    (count > 0 && data.is_empty()).then_some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(tasks: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut packer, mut arguments) = (Packer::default(), Arguments::default());
        arguments.push("before");
        for task in tasks {
            packer.add(&mut arguments, task.len(), |data| data.extend_from_slice(task));
        }
        packer.finish(&mut arguments);
        let packs: Vec<Vec<u8>> = arguments.iter().skip(1).map(<[u8]>::to_vec).collect();
        assert_eq!(packer.finish(&mut arguments), packs.len());
        packs
    }

    #[test]
    fn members_come_back_in_order_and_packs_are_bounded() {
        let tasks: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number; usize::from(number)]).collect();
        let packs = pack(&tasks);
        assert_eq!(packs.len(), 4);
        let read: Vec<Bytes> = packs
            .iter()
            .flat_map(|pack| members(pack.clone().into()).unwrap())
            .collect();
        assert_eq!(read, tasks);
        let large = pack(&vec![vec![0; BYTES / 2]; 3]);
        assert_eq!(large.len(), 3);
        let huge = pack(&[vec![1; 3], vec![1; 3 * BYTES], vec![1; 3]]);
        assert_eq!(huge.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3 * BYTES, 3]);
    }

    #[test]
    fn one_task_is_no_pack() {
        assert_eq!(pack(&[vec![1, 2, 3]]), [vec![1, 2, 3]]);
        assert!(!is_pack(&[1, 2, 3]));
        assert!(pack(&[]).is_empty());
    }

    #[test]
    fn nothing_cut_or_lengthened_is_taken_for_a_pack() {
        let whole = pack(&[vec![1; 5], vec![1; 7]]).remove(0);
        for end in 0..whole.len() {
            assert_eq!(members(whole[..end].to_vec().into()), None, "{end}");
        }
        assert_eq!(members([&whole[..], &[0]].concat().into()), None);
        assert_eq!(members(vec![VERSION, 0].into()), None);
    }
}
