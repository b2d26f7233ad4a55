//! `#[derive(Section)]`: turns a struct of settings into a section of an sconf file.
//!
//! From one definition come the table of its fields (name, whether optional, documentation), reading, writing and
//! describing. A field's name in the file is its Rust name in PascalCase, or `#[config(name = "…")]`; its documentation
//! is its doc comment; `#[config(optional)]` says that it may be left out and then has its `Default`. The generated code
//! names `crate::schema`, so the derive works inside `mox-config` only: that crate owns all schemas.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Expr, Fields, Ident, Lit, Meta, Type, parse_macro_input};

/// Derives `Value` and `Section` of `mox_config::schema` for a struct with named fields.
#[proc_macro_derive(Section, attributes(config))]
pub fn section(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

struct Field<'a> {
    ident: &'a Ident,
    ty: &'a Type,
    name: String,
    optional: bool,
    doc: String,
}

fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(&input.ident, "a section is a struct"));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(syn::Error::new_spanned(&input.ident, "a section has named fields"));
    };
    let fields = named.named.iter().map(field).collect::<syn::Result<Vec<_>>>()?;
    let ident = &input.ident;

    let table =
        fields.iter().map(|Field { name, optional, doc, .. }| quote!(crate::schema::Field { name: #name, optional: #optional, doc: #doc }));
    let slots: Vec<_> = (0..fields.len()).map(|i| quote::format_ident!("slot{i}")).collect();
    let reads = fields.iter().zip(&slots).enumerate().map(|(i, (f, slot))| {
        let ty = f.ty;
        quote!(#i => #slot = <#ty as crate::schema::Value>::read(reader))
    });
    let builds = fields.iter().zip(&slots).map(|(f, slot)| {
        let ident = f.ident;
        if f.optional { quote!(#ident: #slot.unwrap_or_default()) } else { quote!(#ident: #slot?) }
    });
    let zeros = fields.iter().map(|f| {
        let (ident, ty) = (f.ident, f.ty);
        if f.optional {
            quote!(#ident: ::core::default::Default::default())
        } else {
            quote!(#ident: <#ty as crate::schema::Value>::zero()?)
        }
    });
    let zero_checks = fields.iter().map(|f| {
        let ident = f.ident;
        quote!(crate::schema::Value::is_zero(&self.#ident))
    });
    let writes = fields.iter().enumerate().map(|(i, f)| {
        let ident = f.ident;
        quote!(writer.field(&<Self as crate::schema::Section>::FIELDS[#i], &self.#ident))
    });
    let describes = fields.iter().enumerate().map(|(i, f)| {
        let ty = f.ty;
        quote!(writer.describe_field::<#ty>(&<Self as crate::schema::Section>::FIELDS[#i]))
    });

    Ok(quote! {
        impl crate::schema::Section for #ident {
            const FIELDS: &'static [crate::schema::Field] = &[#(#table),*];

            fn read_fields(reader: &mut crate::sconf::Reader<'_>) -> ::core::option::Option<Self> {
                #(let mut #slots = ::core::option::Option::None;)*
                reader.fields(<Self as crate::schema::Section>::FIELDS, |reader, index| match index {
                    #(#reads,)*
                    _ => {}
                });
                ::core::option::Option::Some(Self { #(#builds),* })
            }

            fn write_fields(&self, writer: &mut crate::sconf::Writer) {
                #(#writes;)*
            }

            fn describe_fields(writer: &mut crate::sconf::Writer) {
                #(#describes;)*
            }
        }

        impl crate::schema::Value for #ident {
            fn read(reader: &mut crate::sconf::Reader<'_>) -> ::core::option::Option<Self> {
                reader.nested(<Self as crate::schema::Section>::read_fields)
            }

            fn write(&self, writer: &mut crate::sconf::Writer) {
                writer.nested(|writer| <Self as crate::schema::Section>::write_fields(self, writer));
            }

            fn describe(writer: &mut crate::sconf::Writer) {
                writer.nested(<Self as crate::schema::Section>::describe_fields);
            }

            fn is_zero(&self) -> bool {
                true #(&& #zero_checks)*
            }

            fn is_blank(&self) -> bool {
                <Self as crate::schema::Section>::FIELDS.iter().all(|f| f.optional)
                    && <Self as crate::schema::Value>::is_zero(self)
            }

            fn zero() -> ::core::option::Option<Self> {
                ::core::option::Option::Some(Self { #(#zeros),* })
            }
        }
    })
}

fn field(field: &syn::Field) -> syn::Result<Field<'_>> {
    let Some(ident) = &field.ident else {
        return Err(syn::Error::new_spanned(field, "a section has named fields"));
    };
    let mut name = pascal_case(&ident.to_string());
    let mut optional = false;
    let mut doc: Vec<String> = Vec::new();
    for attr in &field.attrs {
        if attr.path().is_ident("config") {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("optional") {
                    optional = true;
                } else if meta.path.is_ident("name") {
                    name = meta.value()?.parse::<syn::LitStr>()?.value();
                } else {
                    return Err(meta.error("expected `optional` or `name = \"…\"`"));
                }
                Ok(())
            })?;
        } else if let Meta::NameValue(meta) = &attr.meta
            && meta.path.is_ident("doc")
            && let Expr::Lit(lit) = &meta.value
            && let Lit::Str(text) = &lit.lit
        {
            let text = text.value();
            doc.push(text.strip_prefix(' ').unwrap_or(&text).trim_end().to_owned());
        }
    }
    if doc.is_empty() {
        return Err(syn::Error::new_spanned(ident, "a setting needs a doc comment, which is its manual"));
    }
    Ok(Field { ident, ty: &field.ty, name, optional, doc: doc.join("\n") })
}

/// `log_level` → `LogLevel`.
fn pascal_case(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let mut chars = word.chars();
            chars.next().into_iter().flat_map(char::to_uppercase).chain(chars)
        })
        .collect()
}
