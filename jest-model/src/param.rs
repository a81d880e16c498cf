//! Parameters and the order in which they are visited.
//!
//! One rule for all backward passes: gradients of parameters accumulate (+=), gradients of activations are written (=).

use std::sync::OnceLock;

use jest_kernels::ops::cast;
use jest_kernels::{DType, Pass, Tensor};

use crate::Result;
use crate::init::{Init, values};
use crate::stored::{FilePart, Order};

/// A tensor that training changes, with its gradient.
#[derive(Clone, Debug)]
pub struct Param {
    /// In f32, whatever the precision of products.
    value: Tensor,
    /// The value as products read it, once they have.
    rounded: OnceLock<Tensor>,
    /// Gradient of the loss by `value`, of the same shape; every backward pass adds to it.
    pub grad: Tensor,
    name: String,
    is_kernel: bool,
    parts: Vec<Part>,
}

/// Rows of a parameter that are one tensor, or some rows of one, in a weight file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub name: String,
    pub shape: Vec<usize>,
    pub init: Init,
}

impl Part {
    pub fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), init }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Param {
    /// What the model computes with.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Puts another value in its place.
    pub fn set(&mut self, value: Tensor) {
        *self.update().0 = value;
    }

    /// The value to be changed in place, and its gradient.
    pub fn update(&mut self) -> (&mut Tensor, &Tensor) {
        self.rounded.take();
        (&mut self.value, &self.grad)
    }

    /// The value beside its gradient, for an operation that reads one and adds to the other.
    pub fn value_and_grad(&mut self) -> (&Tensor, &mut Tensor) {
        (&self.value, &mut self.grad)
    }

    /// The value as products read it: stored in bf16 where they round to it, from the first product after a change on.
    pub(crate) fn operand(&self, pass: &mut Pass) -> Result<Tensor> {
        if pass.product_operand() == DType::F32 {
            return Ok(self.value.clone());
        }
        if let Some(stored) = self.rounded.get() {
            return Ok(stored.clone());
        }
        let stored = cast::to_product_operand(pass, &self.value)?;
        Ok(self.rounded.get_or_init(|| stored).clone())
    }

    /// Name of the tensor in a weight file; queries, keys and values of a block are one parameter named `qkv_proj`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the weight of a linear layer or a convolution, which weight decay by `kernels` applies to.
    pub fn is_kernel(&self) -> bool {
        self.is_kernel
    }

    /// Tensors of Hugging Face's layout that hold it, one after the other.
    pub(crate) fn file_parts(&self) -> Vec<FilePart> {
        let part = |part: &Part| FilePart { name: part.name.clone(), shape: part.shape.clone(), order: Order::Same };
        self.parts.iter().map(part).collect()
    }

    /// Number of axes in a weight file, which weight decay by `ndim>1` looks at.
    pub fn ndim(&self) -> usize {
        self.parts.first().map_or(0, |part| part.shape.len())
    }
}

/// Makes parameters on a device: initialised from a seed, or zero when a file is about to be read.
pub(crate) struct Builder<'a> {
    pub pass: &'a mut Pass,
    pub seed: Option<u64>,
}

impl Builder<'_> {
    /// A parameter that is one tensor in a weight file.
    pub fn single(&mut self, name: &str, shape: &[usize], init: Init, is_kernel: bool) -> Result<Param> {
        self.joined(name, vec![Part::new(name, shape, init)], is_kernel)
    }

    /// A parameter whose rows are those of its parts, one part after the other.
    pub fn joined(&mut self, name: &str, parts: Vec<Part>, is_kernel: bool) -> Result<Param> {
        let mut shape = parts[0].shape.clone();
        match shape.first_mut() {
            Some(rows) => *rows = parts.iter().map(|part| part.shape[0]).sum(),
            // A file may hold a number without axes; a tensor has at least one.
            None => shape.push(1),
        }
        let grad = self.pass.zeros(&shape)?;
        let value = match self.seed {
            None => grad.clone(),
            Some(seed) => {
                let rows = |(index, part): (usize, &Part)| values(part.init, part.len(), seed, name, index);
                let all: Vec<f32> = parts.iter().enumerate().flat_map(rows).collect();
                self.pass.upload(&all, &shape)?
            }
        };
        Ok(Param { value, rounded: OnceLock::new(), grad, name: name.to_string(), is_kernel, parts })
    }
}

/// Whatever has parameters: visited in one fixed order, the order of every optimiser state and weight file.
pub trait Parameters {
    /// Shows each parameter.
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Param));

    /// Shows each parameter for changing, in the order of [`Parameters::visit`].
    fn visit_mut<'a>(&'a mut self, see: &mut dyn FnMut(&'a mut Param));

    /// All parameters in order.
    fn parameters(&self) -> Vec<&Param> {
        let mut all = Vec::new();
        self.visit(&mut |param| all.push(param));
        all
    }

    /// All parameters in order, for changing.
    fn parameters_mut(&mut self) -> Vec<&mut Param> {
        let mut all = Vec::new();
        self.visit_mut(&mut |param| all.push(param));
        all
    }

    /// Sets every gradient to zero.
    ///
    /// # Errors
    /// `Kernel` when the device fails.
    fn zero_gradients(&mut self, pass: &mut Pass) -> Result<()> {
        for param in self.parameters_mut() {
            param.grad = pass.zeros(param.value.shape())?;
        }
        Ok(())
    }
}

impl Parameters for Param {
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Param)) {
        see(self);
    }

    fn visit_mut<'a>(&'a mut self, see: &mut dyn FnMut(&'a mut Param)) {
        see(self);
    }
}

impl<T: Parameters> Parameters for Option<T> {
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Param)) {
        self.iter().for_each(|layer| layer.visit(see));
    }

    fn visit_mut<'a>(&'a mut self, see: &mut dyn FnMut(&'a mut Param)) {
        self.iter_mut().for_each(|layer| layer.visit_mut(see));
    }
}

impl<T: Parameters> Parameters for Vec<T> {
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Param)) {
        self.iter().for_each(|layer| layer.visit(see));
    }

    fn visit_mut<'a>(&'a mut self, see: &mut dyn FnMut(&'a mut Param)) {
        self.iter_mut().for_each(|layer| layer.visit_mut(see));
    }
}

/// Visits the named fields of a layer in the order given.
macro_rules! visits {
    ($layer:ty: $($field:ident),+) => {
        impl crate::Parameters for $layer {
            fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a crate::Param)) {
                $(crate::Parameters::visit(&self.$field, see);)+
            }

            fn visit_mut<'a>(&'a mut self, see: &mut dyn FnMut(&'a mut crate::Param)) {
                $(crate::Parameters::visit_mut(&mut self.$field, see);)+
            }
        }
    };
}
pub(crate) use visits;
