#[proc_macro_derive(ConfigSection)] pub fn x(_: proc_macro::TokenStream) -> proc_macro::TokenStream { proc_macro::TokenStream::new() }
