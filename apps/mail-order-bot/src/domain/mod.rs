//! What the business talks about: orders, customers, articles, money. Plain values with their rules; no mail, no
//! database (except [`catalogue`], which can be *loaded* from a table), no clock.

pub mod catalogue;
pub mod customer;
pub mod intent;
pub mod measure;
pub mod money;
pub mod number;
pub mod order;
pub mod quantity;
pub mod reason;
pub mod tolerance;
pub mod unit;

pub use catalogue::{Article, Catalogue, CatalogueError};
pub use customer::{AttachmentKind, Customer, CustomerProfile, Profiles, UnknownSenders};
pub use intent::Intent;
pub use measure::Measure;
pub use money::Money;
pub use number::{DecimalStyle, NumberError};
pub use order::{LineStatus, Order, OrderId, OrderLine, OrderState, OrderStatus};
pub use quantity::Quantity;
pub use reason::RejectReason;
pub use tolerance::PriceTolerance;
