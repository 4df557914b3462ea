//! Packs: plain tasks that were published together and are kept as one entry. The data: 2, the number of members (1 byte),
//! and of each its length (4 bytes, the greater first) and its data. `lua/packs.lua` says what becomes of them.

use bytes::{Buf, Bytes};

const VERSION: u8 = 2;
/// How many members a pack may have. They share a lease, and one consumer has all of them in hand.
const MEMBERS: usize = 32;
/// A pack takes no further member once it has so many bytes.
const BYTES: usize = 16 * 1024;

/// Makes packs of tasks, in order.
#[derive(Default)]
pub(crate) struct Packer {
    data: Vec<u8>,
    members: usize,
}

impl Packer {
    /// Adds a task. Gives the pack that is full, or the task before if it is alone.
    pub(crate) fn add(&mut self, task: &[u8]) -> Option<Vec<u8>> {
        let full = self.members == MEMBERS || self.data.len() + task.len() > BYTES;
        let finished = if full { self.finish() } else { None };
        if self.members == 0 {
            self.data.reserve(BYTES.min(task.len() * 8));
            self.data.extend_from_slice(&[VERSION, 0]);
        }
        self.members += 1;
        // Lengths are checked before: see `task_bytes`.
        let length = u32::try_from(task.len()).unwrap_or(u32::MAX);
        self.data.extend_from_slice(&length.to_be_bytes());
        self.data.extend_from_slice(task);
        finished
    }

    /// What has been added since the last full pack.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let mut data = std::mem::take(&mut self.data);
        match std::mem::take(&mut self.members) {
            0 => None,
            1 => Some(data.split_off(6)),
            members => {
                data[1] = members as u8;
                Some(data)
            }
        }
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
        let mut packer = Packer::default();
        let mut packs: Vec<Vec<u8>> = tasks.iter().filter_map(|task| packer.add(task)).collect();
        packs.extend(packer.finish());
        assert_eq!(packer.finish(), None);
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
