//! What scoring leaves to training: embeddings of the candidates that were picked.

use jest_kernels::ops::token_embedding::{self, TokenIds};
use jest_kernels::{Pass, Tensor};
use jest_model::{ModelConfig, View};

use crate::Result;

/// Embeddings of a sub-batch, in the order of its examples.
#[derive(Clone, Debug, Default)]
pub struct Reuse {
    /// What the learner made, and the view it did so at.
    learner: Option<(View, [Tensor; 2])>,
    /// What the reference made, where it teaches.
    teacher: Option<Teacher>,
    /// Whether the pictures that are trained on are others than were scored.
    other_pictures: bool,
}

/// Embeddings by a reference, and the scale of its logits.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// Images and texts: `[b, d]`, with a d of its own.
    pub made: [Tensor; 2],
    /// ln t: `[1]`
    pub log_scale: Tensor,
}

impl Reuse {
    /// With the learner's embeddings of the picked candidates of a super-batch, made at this view.
    ///
    /// # Shapes
    /// Two tensors `[B, d]`; kept are the rows of `picked`.
    pub fn with_learner(self, pass: &mut Pass, view: View, made: &[Tensor; 2], picked: &[usize]) -> Result<Self> {
        Ok(Self { learner: Some((view, both(pass, made, picked)?)), ..self })
    }

    /// With a reference's embeddings of the picked candidates, to be taught by.
    ///
    /// # Shapes
    /// As [`with_learner`](Self::with_learner); log_scale: `[1]`.
    pub fn with_teacher(
        self,
        pass: &mut Pass,
        log_scale: &Tensor,
        made: &[Tensor; 2],
        picked: &[usize],
    ) -> Result<Self> {
        let teacher = Teacher { made: both(pass, made, picked)?, log_scale: log_scale.clone() };
        Ok(Self { teacher: Some(teacher), ..self })
    }

    /// The same for examples in another order.
    pub fn reorder(self, pass: &mut Pass, order: &[usize]) -> Result<Self> {
        let mut again = Self { other_pictures: self.other_pictures, ..Self::default() };
        if let Some((view, made)) = self.learner {
            again = again.with_learner(pass, view, &made, order)?;
        }
        if let Some(Teacher { made, log_scale }) = self.teacher {
            again = again.with_teacher(pass, &log_scale, &made, order)?;
        }
        Ok(again)
    }

    /// What a reference made.
    pub fn teacher(&self) -> Option<&Teacher> {
        self.teacher.as_ref()
    }

    /// The same where the pictures changed after they were scored: only texts are as they were.
    pub fn with_other_pictures(self) -> Self {
        Self { other_pictures: true, ..self }
    }

    /// Embeddings of images that the learner would make again at this view. `[b, d]`
    pub fn images(&self, view: &View, config: &ModelConfig) -> Option<&Tensor> {
        let (scored, [image, _]) = self.learner.as_ref()?;
        // Kept patches are drawn for each purpose anew.
        let whole = view.keep_tokens.is_none() && scored.keep_tokens.is_none();
        let same = whole && view.patch_size(config) == scored.patch_size(config) && !self.other_pictures;
        same.then_some(image)
    }

    /// Embeddings of texts that the learner would make again at this view. `[b, d]`
    pub fn texts(&self, view: &View, config: &ModelConfig) -> Option<&Tensor> {
        let (scored, [_, text]) = self.learner.as_ref()?;
        (view.text_tokens(config) == scored.text_tokens(config)).then_some(text)
    }
}

fn both(pass: &mut Pass, [image, text]: &[Tensor; 2], picked: &[usize]) -> Result<[Tensor; 2]> {
    Ok([rows(pass, image, picked)?, rows(pass, text, picked)?])
}

/// Rows of a matrix in any order: looked up as the embeddings of tokens are, with no positions.
fn rows(pass: &mut Pass, whole: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let ids: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
    let ids = TokenIds::upload(pass, &ids, ids.len(), 1, whole.rows())?;
    let nothing = pass.zeros(&[1, whole.cols()])?;
    Ok(token_embedding::forward(pass, &ids, whole, &nothing)?)
}

#[cfg(test)]
mod tests {
    use jest_kernels::{Device, DeviceOptions, DeviceRequest};
    use jest_model::Preset;

    use super::*;

    #[test]
    fn only_what_would_be_made_again_is_reused() {
        let mut pass = Device::open(&DeviceRequest::Cpu, DeviceOptions::default()).unwrap().pass();
        let config = Preset::Mu.config();
        let made = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].map(|column| pass.upload(&column, &[3, 1]).unwrap());
        let at = |pass: &mut Pass, view| Reuse::default().with_learner(pass, view, &made, &[2, 0]).unwrap();
        let full = at(&mut pass, View::default()).reorder(&mut pass, &[1, 0]).unwrap();
        let read = |pass: &mut Pass, rows: Option<&Tensor>| rows.map(|rows| pass.read(rows).unwrap());
        assert_eq!(read(&mut pass, full.images(&View::patches(8), &config)), Some(vec![1.0, 3.0]));
        assert_eq!(read(&mut pass, full.texts(&View::patches(16), &config)), Some(vec![4.0, 6.0]));
        assert!(full.images(&View::patches(16), &config).is_none());
        let some = View { keep_tokens: Some(3), ..View::default() };
        assert!(full.images(&some, &config).is_none() && at(&mut pass, some).images(&some, &config).is_none());
        let short = View { text_tokens: Some(4), ..View::default() };
        assert!(full.texts(&short, &config).is_none() && at(&mut pass, short).texts(&short, &config).is_some());
        let changed = full.with_other_pictures();
        assert!(changed.images(&View::default(), &config).is_none());
        assert!(changed.texts(&View::default(), &config).is_some());
        let scale = pass.upload(&[2.0], &[1]).unwrap();
        let taught = Reuse::default().with_teacher(&mut pass, &scale, &made, &[1, 2]).unwrap();
        let taught = taught.reorder(&mut pass, &[1, 0]).unwrap();
        let Teacher { made: [image, text], .. } = taught.teacher().unwrap();
        assert_eq!([image, text].map(|rows| pass.read(rows).unwrap()), [[3.0, 2.0], [6.0, 5.0]]);
        assert!(Reuse::default().texts(&View::default(), &config).is_none());
    }
}
