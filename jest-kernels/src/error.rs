//! What can go wrong on a device or in an operation.

/// Everything that opening a device, creating a tensor or running an operation can report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// No adapter answers to the request.
    #[error("no GPU adapter matches {requested:?}; found: {found}; {remedy}")]
    NoAdapter {
        /// What was asked for.
        requested: String,
        /// Names of the adapters present, or `none`.
        found: String,
        /// What to install or to type instead.
        remedy: &'static str,
    },
    /// The adapter cannot run any variant of the kernels.
    #[error("adapter {adapter:?} lacks {missing}; use another adapter or `--device cpu`")]
    Unsupported {
        /// Name of the adapter.
        adapter: String,
        /// The feature or limit that is missing.
        missing: String,
    },
    /// The device request is not one of the spellings.
    #[error("unknown device {0:?}; write auto, cpu, gpu, gpu:N or part of an adapter's name")]
    UnknownDevice(String),
    /// The precision is not one of the spellings.
    #[error("unknown precision {0:?}; write f32, f16 or bf16")]
    UnknownPrecision(String),
    /// The adapter refused to give a device.
    #[error("adapter {adapter:?} gave no device")]
    Open {
        /// Name of the adapter.
        adapter: String,
        /// The driver's reason.
        #[source]
        source: wgpu::RequestDeviceError,
    },
    /// The thread pool of the CPU device could not be started.
    #[error("cannot start {threads} threads for the CPU device; try a smaller --threads")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// The pool's reason.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
    /// An operand has another shape than the operation needs.
    #[error("{op}: {what} has shape {got:?}, expected {expected:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The operand.
        what: &'static str,
        /// The shape it needs.
        expected: Vec<usize>,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A size breaks a rule of the operation.
    #[error("{op}: {what} is {got}, but must be {rule}")]
    Size {
        /// The operation.
        op: &'static str,
        /// The size in question.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The rule in words.
        rule: String,
    },
    /// A tensor holds another element type than the operation needs.
    #[error("{op}: {what} holds {got:?} elements, expected {expected:?}")]
    DType {
        /// The operation.
        op: &'static str,
        /// The operand.
        what: &'static str,
        /// The element type it needs.
        expected: crate::DType,
        /// The element type it has.
        got: crate::DType,
    },
    /// A tensor lives on another device than the pass.
    #[error("{op}: {what} lives on another device than the pass")]
    OtherDevice {
        /// The operation.
        op: &'static str,
        /// The operand.
        what: &'static str,
    },
    /// One tensor would exceed what a buffer of the device can hold.
    #[error(
        "a tensor of shape {shape:?} takes {bytes} bytes, over the device's limit of {limit}; use --micro-batch, a smaller batch or --device cpu"
    )]
    TooLarge {
        /// Shape asked for.
        shape: Vec<usize>,
        /// Bytes it takes.
        bytes: u64,
        /// The device's limit in bytes.
        limit: u64,
    },
    /// A kernel needs more of a tensor at once than a binding of the device can hold.
    #[error(
        "kernel {kernel} needs {bytes} bytes at once of a tensor of shape {shape:?}, over the device's limit of {limit} for a binding; use --micro-batch, a smaller batch or --device cpu"
    )]
    Unbindable {
        /// Name of the kernel.
        kernel: &'static str,
        /// Shape of the tensor.
        shape: Vec<usize>,
        /// Bytes that it needs at once.
        bytes: u64,
        /// The device's limit in bytes.
        limit: u64,
    },
    /// A dispatch would need more workgroups in one dimension than any adapter grants.
    #[error(
        "kernel {kernel} needs {groups} workgroups in one dimension, over the limit of {limit}; use a smaller batch or --device cpu"
    )]
    TooManyGroups {
        /// Name of the kernel.
        kernel: &'static str,
        /// Workgroups it needs.
        groups: u32,
        /// The limit.
        limit: u32,
    },
    /// The device has no room left for a buffer.
    #[error(
        "no room on the GPU for {bytes} bytes: {in_use} bytes are in use; use --micro-batch, --recompute, a smaller batch, or --device cpu"
    )]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that tensors hold.
        in_use: u64,
    },
    /// A kernel did not compile on this driver.
    #[error("kernel {kernel} is refused by the driver: {reason}")]
    Shader {
        /// Name of the kernel and its constants.
        kernel: String,
        /// The driver's words.
        reason: String,
    },
    /// The driver reported an error while running recorded work.
    #[error("the GPU reported: {reason}; memory may be short: use a smaller batch or --device cpu")]
    Gpu {
        /// The driver's words.
        reason: String,
    },
    /// The device is gone.
    #[error("GPU {adapter:?} was lost ({reason}); start again from the last checkpoint")]
    Lost {
        /// Name of the adapter.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
}

/// Result of a kernel call.
pub type Result<T, E = KernelError> = std::result::Result<T, E>;
