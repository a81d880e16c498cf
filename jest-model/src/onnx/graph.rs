//! A graph of ONNX under construction, and its file.

use std::io::{self, Write};
use std::path::Path;

use jest_kernels::Pass;

use crate::param::Param;
use crate::protobuf::Message;
use crate::tensor_file::little_endian;
use crate::{ModelError, Result};

/// Set of operators that the graphs keep to: the first with layer norm.
const OPSET: i64 = 17;
/// Version of the file format that came with it.
const IR_VERSION: i64 = 8;
/// Shorter tensors stay in the model's own file.
const LEAST_OUTSIDE: u64 = 1024;

/// Kinds of element, by ONNX's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32 = 1,
    I64 = 7,
}

/// An attribute of a node.
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Float(&'a str, f32),
    Ints(&'a str, &'a [i64]),
}

impl Attribute<'_> {
    fn message(&self) -> Message {
        let (name, float, int, ints, kind) = (1, 2, 3, 8, 20);
        match self {
            Self::Float(of, value) => Message::new().text(name, of).float(float, *value).number(kind, 1),
            Self::Int(of, value) => Message::new().text(name, of).number(int, *value).number(kind, 2),
            Self::Ints(of, values) => {
                let listed = values.iter().fold(Message::new().text(name, of), |all, value| all.number(ints, *value));
                listed.number(kind, 7)
            }
        }
    }
}

/// A tensor that is part of the file.
struct Initializer<'a> {
    name: String,
    shape: Vec<usize>,
    element: Element,
    values: Values<'a>,
}

enum Values<'a> {
    Host(Vec<u8>),
    Device(&'a Param),
    /// Of a weight `[n, k]`, the `[k, n]` that a product from the right takes.
    Transposed(&'a Param),
}

impl Initializer<'_> {
    fn len(&self) -> u64 {
        let bytes = if self.element == Element::F32 { 4 } else { 8 };
        bytes * self.shape.iter().product::<usize>() as u64
    }

    /// Dimensions, kind and name.
    fn head(&self) -> Message {
        let dims = self.shape.iter().fold(Message::new(), |all, size| all.number(1, *size as i64));
        dims.number(2, self.element as i64).text(8, &self.name)
    }

    fn bytes(&self, pass: &mut Pass) -> Result<Vec<u8>> {
        match &self.values {
            Values::Host(bytes) => Ok(bytes.clone()),
            Values::Device(param) => Ok(little_endian(&pass.read(param.value())?).to_vec()),
            Values::Transposed(param) => {
                let (values, [k, n]) = (pass.read(param.value())?, [self.shape[0], self.shape[1]]);
                let turned: Vec<f32> =
                    (0..k).flat_map(|i| (0..n).map(move |j| j * k + i)).map(|at| values[at]).collect();
                Ok(little_endian(&turned).to_vec())
            }
        }
    }
}

/// Nodes in the order in which they compute, each named by its operator and its place.
pub(super) struct Graph<'a> {
    name: &'static str,
    nodes: Vec<Message>,
    initializers: Vec<Initializer<'a>>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
}

impl<'a> Graph<'a> {
    pub fn new(name: &'static str) -> Self {
        Self { name, nodes: Vec::new(), initializers: Vec::new(), inputs: Vec::new(), outputs: Vec::new() }
    }

    /// A node with one output, and the output's name.
    pub fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> String {
        let name = format!("{operator}_{}", self.nodes.len());
        self.named(operator, inputs, attributes, &[&name]);
        name
    }

    /// A node with these outputs.
    pub fn named(&mut self, operator: &str, inputs: &[&str], attributes: &[Attribute<'_>], outputs: &[&str]) {
        let name = format!("{operator}_{}", self.nodes.len());
        let node = inputs.iter().fold(Message::new(), |node, input| node.text(1, input));
        let node = outputs.iter().fold(node, |node, output| node.text(2, output)).text(3, &name).text(4, operator);
        self.nodes.push(attributes.iter().fold(node, |node, attribute| node.message(5, &attribute.message())));
    }

    /// A parameter as it is.
    pub fn param(&mut self, param: &'a Param) -> String {
        self.hold(param.name().to_string(), param.value().shape(), Element::F32, Values::Device(param))
    }

    /// A weight `[n, k]` as `[k, n]`.
    pub fn transposed(&mut self, param: &'a Param) -> String {
        let shape = [param.value().cols(), param.value().rows()];
        self.hold(format!("{}.transposed", param.name()), &shape, Element::F32, Values::Transposed(param))
    }

    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.hold(name.to_string(), shape, Element::F32, Values::Host(little_endian(values).to_vec()))
    }

    /// A number.
    pub fn number(&mut self, value: f32) -> String {
        self.floats(&format!("number_{value:e}"), &[], &[value])
    }

    /// A list of whole numbers.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.hold(format!("ints_{}", words.join("_")), &[values.len()], Element::I64, Values::Host(bytes))
    }

    /// A whole number.
    pub fn int(&mut self, value: i64) -> String {
        self.hold(format!("int_{value}"), &[], Element::I64, Values::Host(value.to_le_bytes().to_vec()))
    }

    /// The tensor of that name, which is held once.
    fn hold(&mut self, name: String, shape: &[usize], element: Element, values: Values<'a>) -> String {
        if !self.initializers.iter().any(|held| held.name == name) {
            self.initializers.push(Initializer { name: name.clone(), shape: shape.to_vec(), element, values });
        }
        name
    }

    /// A tensor that is given, of any number of rows of this shape.
    pub fn input(&mut self, name: &str, element: Element, shape: &[usize]) {
        self.inputs.push(value_info(name, element, shape));
    }

    /// A tensor that is a result.
    pub fn output(&mut self, name: &str, shape: &[usize]) {
        self.outputs.push(value_info(name, Element::F32, shape));
    }

    /// All but the tensors.
    fn small(&self) -> Message {
        let graph = self.nodes.iter().fold(Message::new(), |graph, node| graph.message(1, node)).text(2, self.name);
        let graph = self.inputs.iter().fold(graph, |graph, input| graph.message(11, input));
        self.outputs.iter().fold(graph, |graph, output| graph.message(12, output))
    }

    /// Bytes of the tensors.
    pub fn weight(&self) -> u64 {
        self.initializers.iter().map(Initializer::len).sum()
    }

    /// Writes the model's file; with the name of a second file, long tensors are left to [`Graph::write_outside`].
    pub fn write(
        &self,
        pass: &mut Pass,
        out: &mut dyn Write,
        metadata: &[(String, String)],
        outside: Option<&str>,
    ) -> Result<()> {
        let mut offset = 0;
        let mut tensors = Vec::new();
        for tensor in &self.initializers {
            match outside.filter(|_| tensor.len() >= LEAST_OUTSIDE) {
                None => tensors.push((tensor.head().begin(9, tensor.len()), Some(tensor))),
                Some(file) => {
                    let place = [
                        ("location", file.to_string()),
                        ("offset", offset.to_string()),
                        ("length", tensor.len().to_string()),
                    ];
                    let head =
                        place.iter().fold(tensor.head(), |head, (key, value)| head.message(13, &entry(key, value)));
                    tensors.push((head.number(14, 1), None));
                    offset += tensor.len();
                }
            }
        }
        let small = self.small();
        let length = |(head, inside): &(Message, Option<&Initializer<'_>>)| {
            head.as_bytes().len() as u64 + inside.map_or(0, Initializer::len)
        };
        let field = |tensor| Message::new().begin(5, length(tensor));
        let whole = |tensor| field(tensor).as_bytes().len() as u64 + length(tensor);
        let graph = small.as_bytes().len() as u64 + tensors.iter().map(whole).sum::<u64>();
        let model = Message::new()
            .number(1, IR_VERSION)
            .text(2, "jest")
            .message(8, &Message::new().text(1, "").number(2, OPSET));
        let model = metadata.iter().fold(model, |model, (key, value)| model.message(14, &entry(key, value)));
        let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(unwritten);
        put(model.begin(7, graph).as_bytes())?;
        put(small.as_bytes())?;
        for tensor in &tensors {
            put(field(tensor).as_bytes())?;
            put(tensor.0.as_bytes())?;
            if let Some(inside) = tensor.1 {
                put(&inside.bytes(pass)?)?;
            }
        }
        Ok(())
    }

    /// Writes the long tensors, one after the other.
    pub fn write_outside(&self, pass: &mut Pass, out: &mut dyn Write) -> Result<()> {
        for tensor in self.initializers.iter().filter(|tensor| tensor.len() >= LEAST_OUTSIDE) {
            out.write_all(&tensor.bytes(pass)?).map_err(unwritten)?;
        }
        Ok(())
    }
}

fn unwritten(source: io::Error) -> ModelError {
    ModelError::Io { action: "write", path: Path::new("model.onnx").to_path_buf(), source }
}

/// A name and a text under it.
fn entry(key: &str, value: &str) -> Message {
    Message::new().text(1, key).text(2, value)
}

/// Name, kind and shape of a tensor whose first axis is the batch.
fn value_info(name: &str, element: Element, shape: &[usize]) -> Message {
    let dim = |dim: Message, all: Message| all.message(1, &dim);
    let batch = dim(Message::new().text(2, "batch"), Message::new());
    let dims = shape.iter().fold(batch, |all, size| dim(Message::new().number(1, *size as i64), all));
    let tensor = Message::new().number(1, element as i64).message(2, &dims);
    Message::new().text(1, name).message(2, &Message::new().message(1, &tensor))
}
