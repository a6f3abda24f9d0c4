//! Where tensors live: WebGPU where there is an adapter that computes rightly, else the CPU.

pub mod check;

use burn::tensor::Device;

use crate::Result;

/// What the caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Cpu,
    WebGpu,
    /// WebGPU if it can be had, else the CPU.
    Auto,
}

/// A device, and why it is this one.
#[derive(Clone, Debug)]
pub struct Opened {
    pub device: Device,
    /// `cpu` or `webgpu`.
    pub backend: &'static str,
    pub reason: String,
}

/// Opens a device.
///
/// # Errors
/// `no_webgpu` if WebGPU was asked for and cannot be had, or fails [`check::check`]; the message says
/// why.
pub async fn open(choice: Choice) -> Result<Opened> {
    match choice {
        Choice::Cpu => cpu("asked for"),
        Choice::WebGpu => webgpu().await,
        Choice::Auto => match webgpu().await {
            Ok(opened) => Ok(opened),
            Err(error) => cpu(&error.message),
        },
    }
}

#[cfg(feature = "cpu")]
fn cpu(reason: &str) -> Result<Opened> {
    Ok(Opened { device: Device::flex(), backend: "cpu", reason: reason.to_owned() })
}

#[cfg(not(feature = "cpu"))]
fn cpu(reason: &str) -> Result<Opened> {
    let message = format!("{reason}, and this build has no CPU backend");
    Err(crate::Error::new(crate::ErrorCode::NoWebgpu, message))
}

/// The device and whether it computes rightly, found once: Burn sets an adapter up once a process.
#[cfg(feature = "webgpu")]
static WEBGPU: std::sync::OnceLock<Result<Device>> = std::sync::OnceLock::new();

#[cfg(feature = "webgpu")]
async fn webgpu() -> Result<Opened> {
    let found = match WEBGPU.get() {
        Some(found) => found.clone(),
        None => {
            let found = checked_webgpu().await;
            WEBGPU.get_or_init(|| found).clone()
        }
    };
    let device = found.map_err(|error| crate::Error::new(crate::ErrorCode::NoWebgpu, error.message))?;
    Ok(Opened { device, backend: "webgpu", reason: "a WebGPU adapter is there".to_owned() })
}

#[cfg(feature = "webgpu")]
async fn checked_webgpu() -> Result<Device> {
    let device = Device::wgpu_options().init_async().await.map_err(crate::Error::internal)?;
    check::check(&device).await?;
    Ok(device)
}

#[cfg(not(feature = "webgpu"))]
async fn webgpu() -> Result<Opened> {
    Err(crate::Error::new(crate::ErrorCode::NoWebgpu, "this build has no WebGPU backend"))
}
