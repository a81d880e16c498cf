//! Token ids on a device, and the order in which their gradient is summed.

use std::cell::RefCell;

use super::OP;
use crate::{KernelError, Pass, Result, Tensor};

/// Positions that one workgroup sums: fixed, so sums repeat.
const PIECE: usize = 128;

/// Token ids [n, l] of n examples, checked against the vocabulary, with the positions of each id.
#[derive(Clone, Debug)]
pub struct TokenIds {
    /// [n * l]
    pub(super) ids: Tensor,
    /// Positions in n * l, sorted by (id, position).
    pub(super) order: Tensor,
    /// [pieces, 3]: first and end in `order`, and the row of dtable, or vocab plus the row of the partial sums.
    pub(super) pieces: Tensor,
    /// [ids split over several pieces, 3]: first and end in the partial sums, and the id.
    pub(super) splits: Option<Tensor>,
    /// Rows of the partial sums.
    pub(super) partials: usize,
    pub(super) l: usize,
    pub(super) vocab: usize,
}

impl TokenIds {
    /// Puts n rows of l ids on the device.
    ///
    /// # Errors
    /// `Shape` unless there are n * l ids; `Size` for an id outside of the vocabulary, with its row and position.
    pub fn upload(pass: &mut Pass, ids: &[u32], n: usize, l: usize, vocab: usize) -> Result<TokenIds> {
        if ids.len() != n * l {
            let (expected, got) = (vec![n, l], vec![ids.len()]);
            return Err(KernelError::Shape { op: OP, what: "ids", expected, got });
        }
        if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
            let rule = format!("below the vocabulary of {vocab} (row {}, position {})", at / l, at % l);
            return Err(KernelError::Size { op: OP, what: "token id", got: *id as usize, rule });
        }
        PLAN.with_borrow_mut(|plan| {
            plan.make(ids, vocab);
            let splits = match plan.splits.len() {
                0 => None,
                words => Some(pass.upload_u32(&plan.splits, &[words / 3, 3])?),
            };
            Ok(TokenIds {
                ids: pass.upload_u32(ids, &[n * l])?,
                order: pass.upload_u32(&plan.order, &[n * l])?,
                pieces: pass.upload_u32(&plan.pieces, &[plan.pieces.len() / 3, 3])?,
                splits,
                partials: plan.partials,
                l,
                vocab,
            })
        })
    }

    /// Ids of one example.
    pub fn l(&self) -> usize {
        self.l
    }

    /// Examples.
    pub fn n(&self) -> usize {
        self.ids.len() / self.l
    }
}

thread_local! {
    /// The plan in work; its memory is kept from call to call.
    static PLAN: RefCell<Plan> = const { RefCell::new(Plan::EMPTY) };
}

/// Positions by id, cut into pieces.
struct Plan {
    order: Vec<u32>,
    pieces: Vec<u32>,
    splits: Vec<u32>,
    partials: usize,
}

impl Plan {
    const EMPTY: Plan = Plan { order: Vec::new(), pieces: Vec::new(), splits: Vec::new(), partials: 0 };

    /// Plans anew.
    fn make(&mut self, ids: &[u32], vocab: usize) {
        let Plan { order, pieces, splits, partials } = self;
        order.clear();
        pieces.clear();
        splits.clear();
        *partials = 0;
        order.extend(0..ids.len() as u32);
        order.sort_unstable_by_key(|position| (ids[*position as usize], *position));
        let order = std::mem::take(order);
        let mut first = 0;
        for same in order.chunk_by(|a, b| ids[*a as usize] == ids[*b as usize]) {
            self.add(ids[same[0] as usize], first, same.len(), vocab);
            first += same.len();
        }
        self.order = order;
    }

    /// One id that stands at `order[first..first + count]`.
    fn add(&mut self, id: u32, first: usize, count: usize, vocab: usize) {
        if count <= PIECE {
            self.pieces.extend([first as u32, (first + count) as u32, id]);
            return;
        }
        let first_partial = self.partials as u32;
        for start in (0..count).step_by(PIECE) {
            let end = (start + PIECE).min(count);
            self.pieces.extend([first + start, first + end, vocab + self.partials].map(|value| value as u32));
            self.partials += 1;
        }
        self.splits.extend([first_partial, self.partials as u32, id]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_in_one_piece_of_its_id() {
        let ids: Vec<u32> = (0..1000).map(|i: u32| if i.is_multiple_of(3) { 7 } else { i % 40 }).collect();
        let mut plan = Plan::EMPTY;
        plan.make(&[9; 500], 50);
        plan.make(&ids, 50);
        let mut seen = vec![false; ids.len()];
        for piece in plan.pieces.chunks_exact(3) {
            let positions = &plan.order[piece[0] as usize..piece[1] as usize];
            assert!(positions.len() <= PIECE && positions.is_sorted());
            let partial = |split: &&[u32]| (split[0]..split[1]).contains(&(piece[2] - 50));
            let id = if piece[2] < 50 { piece[2] } else { plan.splits.chunks_exact(3).find(partial).unwrap()[2] };
            for position in positions {
                assert_eq!(ids[*position as usize], id);
                assert!(!std::mem::replace(&mut seen[*position as usize], true));
            }
        }
        assert!(seen.iter().all(|seen| *seen) && plan.splits.len() == 3);
    }
}
