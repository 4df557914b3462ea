-- What was found out about who sent a message: JSON; kept for longer than the mail itself.
ALTER TABLE ~messages ADD COLUMN authentication TEXT;
