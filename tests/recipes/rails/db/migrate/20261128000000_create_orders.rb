class CreateOrders < ActiveRecord::Migration[6.1]
  def change
    create_table :orders do |table|
      table.integer :session
      table.integer :number
      table.timestamps
    end
  end
end
