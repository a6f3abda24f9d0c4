//! Failures as JavaScript sees them.

use std::cell::RefCell;

use js_sys::{Function, Reflect};
use wasm_bindgen::prelude::*;

use crate::Error;

impl From<Error> for JsValue {
    /// An `Error` named `RecaError` whose `code` is [`crate::ErrorCode::as_str`].
    fn from(error: Error) -> Self {
        let js = js_sys::Error::new(&error.message);
        js.set_name("RecaError");
        // Defining a property on an object made above cannot fail.
        let _ = Reflect::set(&js, &"code".into(), &error.code.as_str().into());
        js.into()
    }
}

thread_local! {
    static LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Calls `listener` with a message if this program fails for good: the instance is unusable
/// afterwards and its worker must be replaced. The same message goes to the console.
#[wasm_bindgen(js_name = onFatal)]
pub fn on_fatal(#[wasm_bindgen(unchecked_param_type = "(message: string) => void")] listener: Function) {
    LISTENER.replace(Some(listener));
    std::panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        if let Some(listener) = LISTENER.take() {
            // A listener that throws must not hide the panic.
            let _ = listener.call1(&JsValue::NULL, &JsValue::from(info.to_string()));
        }
    }));
}
