//! Tensors of a weight file, and where their elements lie among the parameters.

use std::ops::Range;

use crate::param::Param;

/// One tensor of a weight file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub name: String,
    pub shape: Vec<usize>,
    pub pieces: Vec<Piece>,
}

/// Some elements of the parameter with index `param`.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub param: usize,
    pub elements: Range<usize>,
    pub order: Order,
}

/// The order of a piece's elements in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As in the parameter.
    Same,
    /// The parameter's elements have this shape; axis k of the file is axis `axes[k]` of the parameter.
    Permuted { shape: Vec<usize>, axes: Vec<usize> },
}

/// Elements of a parameter, from its start on, that are one tensor of a file, or some rows of one.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    pub name: String,
    pub shape: Vec<usize>,
    pub order: Order,
}

impl FilePart {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of a weight file: parts of one name are joined along their first axis, in the order of visiting.
pub(crate) fn stored(params: &[&Param], parts: impl Fn(&Param) -> Vec<FilePart>) -> Vec<Stored> {
    let mut all: Vec<Stored> = Vec::new();
    for (param, value) in params.iter().enumerate() {
        let mut start = 0;
        for part in parts(value) {
            let elements = start..start + part.len();
            start = elements.end;
            let piece = Piece { param, elements, order: part.order };
            match all.iter_mut().find(|stored| stored.name == part.name) {
                Some(stored) => {
                    stored.shape[0] += part.shape[0];
                    stored.pieces.push(piece);
                }
                None => all.push(Stored { name: part.name, shape: part.shape, pieces: vec![piece] }),
            }
        }
    }
    all
}

impl Order {
    /// Rows and columns change places.
    pub fn transposed(rows: usize, cols: usize) -> Self {
        Self::Permuted { shape: vec![rows, cols], axes: vec![1, 0] }
    }

    /// Elements in the order of the file.
    pub fn to_file(&self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::Same => values.to_vec(),
            Self::Permuted { .. } => self.places().map(|place| values[place]).collect(),
        }
    }

    /// Elements in the order of the parameter.
    pub fn to_param(&self, values: &[f32], out: &mut [f32]) {
        match self {
            Self::Same => out.copy_from_slice(values),
            Self::Permuted { .. } => self.places().zip(values).for_each(|(place, value)| out[place] = *value),
        }
    }

    /// For each element of the file, its place in the parameter.
    fn places(&self) -> impl Iterator<Item = usize> {
        let (shape, axes): (&[usize], &[usize]) = match self {
            Self::Same => (&[], &[]),
            Self::Permuted { shape, axes } => (shape, axes),
        };
        let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let sizes: Vec<(usize, usize)> = axes.iter().map(|axis| (shape[*axis], stride(*axis))).collect();
        let count: usize = sizes.iter().map(|(size, _)| size).product();
        (0..count).map(move |mut index| {
            sizes.iter().rev().fold(0, |place, (size, stride)| {
                let at = index % size;
                index /= size;
                place + at * stride
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permuting_and_back_is_the_identity() {
        let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let order = Order::transposed(2, 3);
        assert_eq!(order.to_file(&values[..6]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let kernel = Order::Permuted { shape: vec![4, 3, 1, 2], axes: vec![2, 3, 1, 0] };
        let file = kernel.to_file(&values);
        assert_eq!(file[..5], [0.0, 6.0, 12.0, 18.0, 2.0]);
        let mut back = vec![0.0; 24];
        kernel.to_param(&file, &mut back);
        assert_eq!(back, values);
    }
}
