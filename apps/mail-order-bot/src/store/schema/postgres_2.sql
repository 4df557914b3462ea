-- The customer's own number of the order.
ALTER TABLE ~orders ADD COLUMN order_number TEXT;
CREATE INDEX orders_by_number ON ~orders (customer_id, lower(order_number));
